# Starts the console alone: deploy/console.ps1 [--host 127.0.0.1] [--port 8421] [--db FILE] [--env-file FILE]
$ErrorActionPreference = "Stop"
$root = Split-Path -Parent $PSScriptRoot
$console = Join-Path $root ".venv/Scripts/console.exe"
if (-not (Test-Path $console)) { $console = Join-Path $root ".venv/bin/console" }
& $console serve @args
exit $LASTEXITCODE
