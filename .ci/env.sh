# Sourced by the scripts beside it: makes .venv with kflab in it, on a bare Debian machine too.
# Debian's python3 comes without venv and pip, and its pip refuses to install outside a venv (PEP 668): apt brings
# what is missing, everything else goes into .venv.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONNOUSERSITE=1
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() { printf '%s\n' "kflab: $*" >&2; }
stop() { say "$*"; exit 2; }

# The first Python that is new enough and can make a virtual environment; fails without one.
find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(1)
import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# apt_install PACKAGE…: as root, or through sudo (which may ask for a password only where somebody can answer).
apt_install() {
    local as_root=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || return 1
        as_root=(sudo)
        [ -t 0 ] || as_root=(sudo -n)
    fi
    say "installing $* (apt)"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 || return 1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >&2
}

# make_venv EXTRAS: installs this checkout, editable, with "" or "[test]". Does nothing when that is already so.
make_venv() {
    local extras=$1 python stamp
    if ! python=$(find_python); then
        apt_install python3 python3-venv python3-pip || stop "needs Python 3.11 or newer with venv and pip;" \
            "on Debian or Ubuntu: apt-get update && apt-get install python3-venv python3-pip (as root)"
        python=$(find_python) || stop "needs Python 3.11 or newer; this machine has $(python3 --version 2>&1)"
    fi
    # A virtual environment is tied to its folder and to what pyproject.toml asked for when it was made.
    stamp="$PWD $(cksum <pyproject.toml)"
    if [ -x .venv/bin/kflab ] && grep -qsxF -e "$stamp $extras" -e "$stamp [test]" .venv/kflab-stamp; then
        return
    fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
        [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)')" != "$PWD/.venv" ]; then
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "installing kflab into .venv (once)"
    .venv/bin/python -m pip install -q -e ".$extras" >&2 || stop "pip could not install kflab; see above"
    printf '%s\n' "$stamp $extras" >.venv/kflab-stamp
}
