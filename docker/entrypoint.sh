#!/bin/sh
# Says in one line each what would end a training on this machine, before anything is downloaded, then runs its arguments.
# A provider may replace it: nothing depends on it, and `axr doctor` looks at the same and more. Plain sh, since that takes
# milliseconds where Python takes half a second.
set -eu
volume=/workspace
gib=1048576 # KiB

say() {
    printf 'container: %s\n  help: %s\n' "$1" "$2" >&2
}

# The first number of the driver's version; the kernel module tells it at once, nvidia-smi after some seconds.
driver() {
    found="$(sed -n 's/^NVRM version:.* \([0-9][0-9]*\)\.[0-9.]* .*/\1/p' /proc/driver/nvidia/version 2>/dev/null)" || true
    [ -n "$found" ] || found="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | sed -n '1s/\..*//p')" || true
    case "$found" in *[!0-9]*) ;; *) echo "$found" ;; esac
}

free() { # KiB at a path
    df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $4}'
}

check_gpu() {
    gpus=0
    for device in /dev/nvidia[0-9]*; do
        [ ! -e "$device" ] || gpus=$((gpus + 1))
    done
    if [ "$gpus" -eq 0 ] && [ ! -e /dev/dxg ]; then
        say "no GPU was passed in: validate, plan and rehearse work, training does not" "docker run --gpus all ..."
        return
    fi
    case "$AXR_TORCH_BACKEND" in
        cu126) least=525 ;;
        cu130) least=580 ;;
        *) least=0 ;;
    esac
    found="$(driver)"
    if [ "${found:-$least}" -lt "$least" ]; then
        say "the host's NVIDIA driver $found is too old: torch of this image ($AXR_TORCH_BACKEND) needs $least or newer" \
            "rent a host with driver $least or newer$([ "$least" -le 525 ] || echo ", or take the image of cu126 (driver 525)")"
        exit 3
    fi
    shm="$(free /dev/shm)"
    if [ "${shm:-0}" -lt $((gpus * gib)) ]; then
        say "/dev/shm has $((${shm:-0} / 1024)) MiB; NCCL and data loader workers of $gpus GPU$([ "$gpus" -eq 1 ] || echo s) take $gpus GiB" \
            "docker run --ipc=host ..., or --shm-size=$((gpus * 2))g"
    fi
}

check_volume() {
    if [ ! -w "$volume" ]; then
        say "$volume cannot be written by user $(id -u): no place for models and runs" \
            "docker run --user \$(id -u) -v /a/folder/of/yours:$volume ..."
        return
    fi
    grep -q " $volume " /proc/self/mountinfo ||
        say "no volume is mounted on $volume: models and runs go when the container goes" "docker run -v /a/large/disk:$volume ..."
    room="$(free "$volume")"
    [ "${room:-$((10 * gib))}" -ge $((10 * gib)) ] ||
        say "$volume has $((room / 1024)) MiB free, less than any model and its checkpoints take" \
            "free some, or mount a larger disk; axr plan NAME says how much a recipe needs"
}

# sshd where it is installed (target cloud) and a key is given; nobody else gets in.
start_sshd() {
    home=/run/axr-sshd
    if ! mkdir -p "$home" /run/sshd 2>/dev/null || [ "$(id -u)" -ne 0 ]; then
        say "sshd was not started: it needs root and a /run that can be written" "docker run --tmpfs /run ..., without --user"
        return
    fi
    [ -e "$home/key" ] || ssh-keygen -q -t ed25519 -N "" -f "$home/key"
    printf '%s\n' "$PUBLIC_KEY" >"$home/authorized_keys"
    /usr/sbin/sshd -h "$home/key" -p "${SSH_PORT:-22}" -o AuthorizedKeysFile="$home/authorized_keys" -o UsePAM=no \
        -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o PermitRootLogin=prohibit-password
}

# Another user than root has no entry in /etc/passwd: a home for what wants one, a name for what asks.
if [ ! -w "${HOME:-/}" ]; then
    export HOME=/tmp USER="${USER:-user}"
fi
if [ -n "${AXR_TORCH_BACKEND:-}" ]; then
    check_gpu
    check_volume
fi
if [ -n "${PUBLIC_KEY:-}" ] && [ -x /usr/sbin/sshd ]; then
    start_sshd
fi
exec "$@"
