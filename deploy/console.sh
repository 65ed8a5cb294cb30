#!/bin/sh
# Starts the console alone: deploy/console.sh [--host 127.0.0.1] [--port 8421] [--db FILE] [--env-file FILE]
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
exec "$here/.venv/bin/console" serve "$@"
