# Shared by the scripts here: finding programs, and installing Debian packages. Sourced, never run.

# Debian puts servers into /usr/sbin, which is not in everyone's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# as_root COMMAND...: run it as root; 1 where that is not possible without asking for a password in a script.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    else
        return 1
    fi
}

# without_service UNIT: Debian starts a server as soon as it is installed, and at every boot. We want the program only.
without_service() {
    [ -d /run/systemd/system ] || return 0
    as_root systemctl --quiet disable --now "$1" >/dev/null 2>&1 || true
}

# apt_install PACKAGE...: quiet and without questions; the package lists are renewed once if it fails.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    local attempt log status=1
    log=$(mktemp)
    for attempt in 1 2; do
        if as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
            -o DPkg::Lock::Timeout=120 install "$@" </dev/null >"$log" 2>&1; then
            status=0
            break
        fi
        [ "$attempt" -eq 1 ] || break
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update \
            </dev/null >>"$log" 2>&1 || break
    done
    [ "$status" -eq 0 ] || tail -n 5 "$log" >&2
    rm -f "$log"
    return "$status"
}
