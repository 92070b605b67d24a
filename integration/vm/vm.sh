#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# vm.sh - run a command as root in a throw-away VM that has cgroup v2 only.
#
# The VM boots a stock Debian kernel under QEMU (TCG by default: no KVM, no
# network and no privileges are needed on the host).  Its root file system is
# the host's own, shared read-only over 9p with a tmpfs overlay on top, so that
# every program of the host runs as it is and nothing it writes survives.
#
#     vm.sh [OPTION...] -- COMMAND [ARG...]
#
#   --cpus N          virtual CPUs (2); 1 is the cheapest under TCG
#   --memory MIB      guest memory (2048)
#   --append ARGS     more kernel arguments, e.g. 'nohz_full=1-3' (repeatable)
#   --share DIR[:ro]  show DIR at the same path, live and (without :ro) writable
#                     (repeatable)
#   --disk SIZE       add an empty ext4 disk (/dev/vda, e.g. 4G) mounted at
#                     /scratch, with /var/lib/containerd on it
#   --env NAME[=VAL]  set a variable for COMMAND (repeatable); the default
#                     environment is PATH, HOME, LANG and TERM only
#   --cwd DIR         working directory ($PWD where the VM has it, else /)
#   --systemd         boot systemd as PID 1 and run COMMAND as a unit
#   --timeout SEC     kill the VM after that long (600), its kernel having said what
#                     it does; the exit code is 124
#   --console FILE    keep the kernel's console log
#   --accel ACCEL     QEMU accelerator (tcg,thread=multi), e.g. kvm
#   --cpu MODEL       QEMU CPU model (Nehalem,+rdrand; host with --accel kvm*)
#   --tty             COMMAND gets a terminal, e.g. vm.sh --tty -- bash
#   --prepare         only fill the cache
#
# The exit code is COMMAND's; 124 on a time-out, 125 if the VM itself failed.
# COMMAND's stdout and stderr are passed on separately; its stdin is empty.
# Every process left when COMMAND ends is killed and the VM is powered off.
#
# In the guest, guest-init.sh and then guest-runner.sh run.
#
# What the guest sees:  / (overlay); fresh tmpfs at /run, /tmp, /dev/shm and
# /var/lib/containerd; /sys/fs/cgroup (cgroup2, all controllers enabled for the
# children of the root); a loopback device as the only network; kernel modules
# on demand.  Host files below /run or /tmp need a --share; no sockets, FIFOs
# or devices can be made or used on a share.
#
# Needs (amd64, Debian): bash apt busybox-static qemu-system-x86 util-linux
# xz-utils; e2fsprogs for --disk; systemd and dbus for --systemd.
#
# Environment: VM_CACHE, the directory where kernels, the initramfs and the disk
# are kept (target/vm); VM_KERNEL_PACKAGE, a linux-image package to use instead
# of the newest one at the time the cache was filled.

set -Eeuo pipefail
trap 'die "failed at line $LINENO"' ERR

# ---------------------------------------------------------------- arguments --

die() { echo "vm.sh: $*" >&2; exit 125; }

usage() { sed -n '3,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

cpus=2 memory=2048 append='' disk='' cwd='' systemd='' timeout=600 console=''
accel=tcg,thread=multi cpu='' tty='' prepare=''
shares=() env=()

while (($#)); do
    case $1 in
    --systemd) systemd=1; shift; continue ;;
    --tty) tty=1; shift; continue ;;
    --prepare) prepare=1; shift; continue ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    -*) (($# > 1)) || die "$1: unknown, or without its value (see --help)" ;;
    *) break ;;
    esac
    case $1 in
    --cpus) cpus=$2 ;;
    --memory) memory=$2 ;;
    --append) append+=" $2" ;;
    --share) shares+=("$2") ;;
    --disk) disk=$2 ;;
    --env) env+=("$2") ;;
    --cwd) cwd=$2 ;;
    --timeout) timeout=$2 ;;
    --console) console=$2 ;;
    --accel) accel=$2 ;;
    --cpu) cpu=$2 ;;
    *) die "unknown option $1 (see --help)" ;;
    esac
    shift 2
done
(($#)) || [[ $prepare ]] || { usage >&2; exit 125; }

case $cpu,$accel in
,kvm*) cpu=host ;;
# SSE4.2 but no AVX, which TCG translates slowly; without rdrand the first
# getrandom() of the guest has to wait for entropy.
,*) cpu=Nehalem,+rdrand ;;
esac

for tool in busybox qemu-system-x86_64 setpriv flock apt-get dpkg-deb; do
    command -v $tool >/dev/null || die "$tool not found"
done
busybox=$(command -v busybox)
[[ -z $systemd || (-x /lib/systemd/systemd && -x /usr/bin/dbus-daemon) ]] ||
    die "--systemd needs the packages systemd and dbus"

# -------------------------------------------------------------------- cache --
#
# $cache/PACKAGE/{vmlinux,lib/modules/RELEASE}   $kernel
# $cache/default                                 the PACKAGE first chosen
# $cache/initramfs-CHECKSUM                      of this script, the guest's and PACKAGE
# $cache/disk-SIZE.ext4                          formatted, never written to

here=$(dirname "${BASH_SOURCE[0]}")
cache=${VM_CACHE:-target/vm}
mkdir -p "$cache"
cache=$(realpath "$cache")

# The kernel in a bzImage is compressed; as an ELF file it boots (by PVH) more
# than two seconds faster under TCG, which would have to unpack it each time.
unpack_kernel() { # BZIMAGE
    local sectors offset length
    sectors=$(od -An -tu1 -j$((0x1f1)) -N1 "$1")
    read -r offset length < <(od -An -tu4 -j$((0x248)) -N8 "$1")
    head -c $(((sectors + 1) * 512 + offset + length)) "$1" | tail -c "$length" |
        xz -dc --single-stream
}

prepare_kernel() {
    local new=$cache/kernel.new deb release
    package=${VM_KERNEL_PACKAGE:-}
    if [[ -z $package && -e $cache/default ]]; then
        package=$(<"$cache/default")
    elif [[ -z $package ]]; then
        package=$(apt-cache depends linux-image-amd64 |
            awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
        [[ $package ]] || die "linux-image-amd64 is unknown to apt (try apt-get update)"
        echo "$package" >"$cache/default"
    fi
    kernel=$cache/$package
    [[ -d $kernel ]] && return

    rm -rf "$new"
    mkdir "$new"
    (cd "$new" && apt-get -qq -o APT::Sandbox::User=root download "$package") >&2 ||
        die "cannot download $package (try apt-get update)"
    deb=$(echo "$new"/*.deb)

    # Without the drivers of real hardware, three quarters of the package.
    dpkg-deb --fsys-tarfile "$deb" |
        tar -x -C "$new" --wildcards \
            --exclude='*/kernel/sound' \
            --exclude='*/kernel/drivers/'{gpu,hid,hwmon,iio,infiniband,input} \
            --exclude='*/kernel/drivers/'{media,platform,scsi,staging,usb} \
            --exclude='*/kernel/drivers/net/'{ethernet,wireless} \
            './boot/vmlinuz-*' ./lib/modules
    release=$(basename "$new"/lib/modules/*)
    "$busybox" depmod -b "$new" "$release"

    unpack_kernel "$new/boot/vmlinuz-$release" >"$new/vmlinux" 2>/dev/null ||
        mv "$new/boot/vmlinuz-$release" "$new/vmlinux" # not xz: as it is, then
    rm -rf "${new:?}/boot" "$deb"
    mv "$new" "$kernel"
}

# Prints the files of modules and of what they depend on, in insertion order.
module_files() { # DIRECTORY NAME...
    awk -F: -v wanted="${*:2}" '
        function add(file, needs, n) {
            if (file in done) return
            done[file]
            n = split(depends[file], needs, " ")
            while (n) add(needs[n--])
            print file
        }
        {
            name = $1; sub(/.*\//, "", name); sub(/\.ko.*/, "", name)
            path[name] = $1; depends[$1] = $2
        }
        END {
            n = split(wanted, names, " ")
            for (i = 1; i <= n; i++) if (names[i] in path) add(path[names[i]])
        }
    ' "$1/modules.dep"
}

prepare_initramfs() {
    local modules root=$cache/initramfs.new file
    initramfs=$cache/initramfs-$( (cat "$here"/{vm,guest-init,guest-runner}.sh && echo "$package") |
        cksum | cut -d' ' -f1)
    [[ -e $initramfs ]] && return

    modules=$(echo "$kernel"/lib/modules/*)
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,job,lower,modules,proc,root,rw,sys}
    cp "$busybox" "$root/bin/busybox"
    module_files "$modules" virtio_pci 9pnet_virtio 9p overlay virtio_console |
        while read -r file; do
            cp "$modules/$file" "$root/modules"
            basename "$file" >>"$root/modules/list"
        done
    cp "$here/guest-init.sh" "$root/init"
    cp "$here/guest-runner.sh" "$root/runner"
    chmod +x "$root/init" "$root/runner"
    (cd "$root" && find . | "$busybox" cpio -o -H newc) >"$initramfs.new" 2>/dev/null
    rm -r "$root"
    mv "$initramfs.new" "$initramfs"
}

prepare_disk() {
    [[ $disk ]] || return 0
    image=$cache/disk-$disk.ext4
    [[ -e $image ]] && return
    rm -f "$image.new"
    truncate -s "$disk" "$image.new" || die "bad --disk size $disk"
    PATH=$PATH:/usr/sbin mkfs.ext4 -q -m 0 "$image.new" || die "cannot format a disk"
    mv "$image.new" "$image"
}

# ------------------------------------------------------------------ prepare --

exec {lock}>"$cache/lock"
flock $lock
prepare_kernel
prepare_initramfs
prepare_disk
exec {lock}>&-
[[ $prepare ]] && exit 0

# ---------------------------------------------------------------------- job --
#
# $job/guest is what the VM gets to see: config, shares, command; and in it,
# the exit code comes back.

job=$(mktemp -d)
children=() watcher=

cleanup() {
    set +e
    trap - ERR
    kill "${children[@]}" $watcher 2>/dev/null
    wait
    rm -rf "$job"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

quote() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

mkdir "$job/guest"
cat >"$job/guest/config" <<EOF
MODULES=$(quote "$kernel/lib/modules")
CWD=$(quote "${cwd:-$PWD}")
DISK=$(quote "$disk")
SYSTEMD=$systemd
TTY=$(quote "${tty:+${TERM:-dumb}}")
EOF
{
    for variable in "${env[@]}"; do
        if [[ $variable != *=* ]]; then
            [[ -v $variable ]] || continue
            variable+=${!variable/#/=}
        fi
        printf 'export %s\n' "$(quote "$variable")"
    done
    printf exec
    for argument in "$@"; do printf ' %s' "$(quote "$argument")"; done
    echo
} >"$job/guest/command"

# QEMU reads a comma in an option's value if it is doubled.
comma() { printf %s "${1//,/,,}"; }

fsdev() { # TAG DIRECTORY OPTIONS
    qemu+=(
        -fsdev "local,id=$1,path=$(comma "$2"),security_model=none,multidevs=remap$3"
        -device "virtio-9p-pci,fsdev=$1,mount_tag=$1"
    )
}

# --------------------------------------------------------------------- QEMU --

kernel_args=(
    console=ttyS0 quiet panic=-1
    # Cheaper under emulation, and of no consequence for what is tested here.
    mitigations=off init_on_alloc=0 cryptomgr.notests rcupdate.rcu_expedited=1
    # The host may be slow; that is neither a lockup nor a bad clock.
    nowatchdog rcupdate.rcu_cpu_stall_suppress=1 tsc=reliable
    # What it does when its time is over goes to the console: backtraces of all CPUs, and all tasks.
    unknown_nmi_panic panic_print=0x41
)

[[ $console ]] || console=$job/console
qemu=(
    qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
    -machine q35 -accel "$accel" -cpu "$cpu" -smp "$cpus" -m "$memory"
    -kernel "$kernel/vmlinux" -initrd "$initramfs"
    -append "${kernel_args[*]}$append"
    -chardev "file,id=console,path=$(comma "$console")" -serial chardev:console
)
fsdev root / ,readonly=on
fsdev job "$job/guest" ''
: >"$job/guest/shares"
for share in "${shares[@]}"; do
    path=$(realpath -e "${share%:ro}") && [[ -d $path ]] || die "no directory to share: $share"
    options=rw readonly=''
    [[ $share == *:ro ]] && options=ro readonly=,readonly=on
    tag=share$(wc -l <"$job/guest/shares")
    fsdev "$tag" "$path" "$readonly"
    printf '%s\t%s\t%s\n' "$tag" "$options" "$path" >>"$job/guest/shares"
done
if [[ $disk ]]; then
    qemu+=(-drive "file=$(comma "$image"),format=raw,if=virtio,snapshot=on")
fi

# If this script is killed, so is what it started.
tied=(setpriv --pdeathsig KILL)

if [[ $tty ]]; then
    exec {input}<&0
    saved=$(stty -g 2>/dev/null) || saved=''
    qemu+=(-chardev stdio,id=tty,signal=off -serial chardev:tty)
else
    exec {input}</dev/null
    saved=''
    mkfifo "$job/stdout" "$job/stderr"
    "${tied[@]}" cat "$job/stdout" & children+=($!)
    "${tied[@]}" cat "$job/stderr" >&2 & children+=($!)
    qemu+=(
        -device virtio-serial-pci
        -chardev "file,id=out,path=$job/stdout" -device virtserialport,nr=1,chardev=out
        -chardev "file,id=err,path=$job/stderr" -device virtserialport,nr=2,chardev=err
    )
fi

# A VM that hangs says where, before it is killed.
mkfifo "$job/monitor.in" "$job/monitor.out" "$job/silence"
qemu+=(-chardev "pipe,id=monitor,path=$(comma "$job/monitor")" -mon chardev=monitor)
"${tied[@]}" cat "$job/monitor.out" >/dev/null & children+=($!)
# read, unlike sleep, is no process that would stay.
"${tied[@]}" bash -c 'read -rt "$1" <>"$2"; echo nmi >"$3"' - "$timeout" "$job/silence" \
    "$job/monitor.in" &
watcher=$!

"${tied[@]}" timeout --foreground -k 5 $((timeout + 20)) "${tied[@]}" "${qemu[@]}" \
    <&$input 2>"$job/qemu.log" &
vm=$! status=0
children+=($vm)
wait -n || status=$?
if kill -0 $vm 2>/dev/null; then
    # Not the VM but a reader has ended: with the VM, or since its output is
    # closed, which is to end this script as it does other commands.
    ((status == 0)) || exit $status
    wait $vm || status=$?
fi
[[ $saved ]] && stty "$saved"

# ------------------------------------------------------------------- result --

if [[ -s $job/guest/exit ]]; then
    # The readers end by themselves, having passed on everything.
    wait "${children[@]}" || true
    children=()
    exit "$(<"$job/guest/exit")"
fi
{
    echo "vm.sh: the VM ended without a result; the last lines of its console:"
    sed '/Kernel panic/q' "$console" | tail -n 20
    cat "$job/qemu.log"
} >&2
if ((status == 124 || status == 137)) || ! kill -0 $watcher 2>/dev/null; then
    echo "vm.sh: killed after $timeout seconds" >&2
    exit 124
fi
exit 125
