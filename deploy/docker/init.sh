#!/bin/sh
# Makes what the other containers need: folders, secrets, the bus's configuration; and gives it to PUID:PGID, since a
# container engine makes folders as root. Runs before every start and changes nothing that is as it should be.
set -eu

refuse() {
    echo "init: $*" >&2
    exit 2
}
FILE="config/music-cloud.env"
for name in PUID PGID; do
    eval "value=\$$name"
    case $value in
        '' | *[!0-9]*) refuse "$name takes a number, as the command id shows it on the NAS; mend it in $FILE." ;;
    esac
done
case $UMASK in
    [0-7][0-7][0-7] | [0-7][0-7][0-7][0-7]) ;;
    *) refuse "UMASK takes three or four octal digits, such as 022; mend it in $FILE." ;;
esac

# give DEPTH FOLDER: what in it belongs to somebody else
give() {
    find "$2" -maxdepth "$1" \( ! -uid "$PUID" -o ! -gid "$PGID" \) -exec chown -h "$PUID:$PGID" {} + ||
        refuse "the folder $2 of ROOT_DIR cannot be given to $PUID:$PGID. Where it lies on a network share, set PUID" \
            "and PGID in $FILE to the user and group that the share belongs to."
}

# First, since it makes nothing where something is wrong: with a setting, or for want of space.
cd /config
python3 -m cli init --nats-config /data/nats/nats-server.conf --nats-listen 0.0.0.0:4222 \
    --nats-store /data/nats/jetstream --nats-version "$NATS_VERSION"

cd /data
# Those of profiles, too: what is missing when their containers start, the engine makes as root.
mkdir -p library state snapshots nats secrets music objects postgres proxy ||
    refuse "no folders can be made below ROOT_DIR; see that its disk is mounted, and not read-only."
# A bucket of the profile s3 is a folder.
[ -z "$OBJECT_BUCKET" ] || mkdir -p "objects/$OBJECT_BUCKET"

chmod 700 secrets secrets/*/
# Many files, but of ours alone.
for folder in secrets nats state snapshots; do
    give 999 "$folder"
done
# A library may have millions of files, and a person's besides ours: only the folder itself, and only while it is as
# the engine made it. One that belongs to somebody may be another stack's; the downloader says so where it is not ours.
[ -n "$(find library -maxdepth 0 ! -uid 0)" ] || give 0 library
for folder in . music objects objects/"$OBJECT_BUCKET" postgres proxy; do
    give 0 "$folder"
done
