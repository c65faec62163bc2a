# shellcheck shell=sh
# A login gets the variables that the container was started with (PATH, HF_HOME, tokens), which sshd does not pass on. They are
# read from the first process, not from a file: no token is written to disk.
if [ -r /proc/1/environ ] && [ -z "${AXR_LOGIN:-}" ]; then
    export AXR_LOGIN=1
    eval "$(/opt/venv/bin/python -c '
import shlex
for pair in open("/proc/1/environ", "rb").read().split(b"\0"):
    name, _, value = pair.decode(errors="replace").partition("=")
    if name.isidentifier() and name not in ("HOME", "HOSTNAME", "PUBLIC_KEY", "PWD", "SHLVL", "TERM"):
        print(f"export {name}={shlex.quote(value)}")
')"
fi
