#!/bin/sh
# Starts the service of this image with the permissions that UMASK takes from new files.
set -eu
case ${UMASK:=022} in
    [0-7][0-7][0-7] | [0-7][0-7][0-7][0-7]) umask "$UMASK" ;;
    *)
        echo "$SERVICE: UMASK takes three or four octal digits, such as 022: mend it in config/music-cloud.env." >&2
        exit 2
        ;;
esac
[ "$SERVICE" != cli ] || exec music-cloud "$@"
exec python3 -m "$SERVICE" "$@"
