#!/usr/bin/env python3
"""Ends with 0 if the service of this container answers on its health port."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["HEALTH_PORT"]), timeout=4)
try:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"no answer: {error}")
if answer.status != 200:
    sys.exit(f"the answer is {answer.status}: {answer.read(500).decode(errors='replace')}")
