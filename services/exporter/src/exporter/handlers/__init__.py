"""What the exporter does with facts (``project``) and with a changed catalog (``publish``)."""
