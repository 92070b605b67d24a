#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Stage 1 in the VM of vm.sh: /init of the initramfs.  It assembles the root file system.
set -e
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r file; do insmod "/modules/$file"; done </modules/list

p9() { # TAG DIRECTORY OPTIONS
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2"
}

p9 job /job cache=none
. /job/config

# The host does not change its files under our feet, or not those that matter:
# cache=loose keeps what has been read.
p9 root /lower ro,cache=loose
mount -t tmpfs -o mode=755 rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /root

cd /root
rm -f .dockerenv # the host may be a container; this is none
mkdir -p proc sys dev run tmp lib/modules var/lib/containerd
mount --move /proc proc
mount --move /sys sys
mount --move /dev dev
mount -t tmpfs -o mode=755,nosuid,nodev run run
mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp
mount -t tmpfs -o mode=711 containerd var/lib/containerd
mount --bind "/lower$MODULES" lib/modules

mkdir -p dev/pts dev/shm dev/mqueue run/lock
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
mount -t mqueue mqueue dev/mqueue
ln -sf /proc/self/fd dev/fd
ln -sf /proc/self/fd/0 dev/stdin
ln -sf /proc/self/fd/1 dev/stdout
ln -sf /proc/self/fd/2 dev/stderr

mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 sys/fs/cgroup
for controller in $(cat sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >sys/fs/cgroup/cgroup.subtree_control || true
done
mount -t bpf bpf sys/fs/bpf
mount -t securityfs securityfs sys/kernel/security
mount -t tracefs tracefs sys/kernel/tracing

mkdir run/vm run/vm/job
cp /bin/busybox /runner run/vm/
ln -s busybox run/vm/modprobe
mount --move /job run/vm/job
echo /run/vm/modprobe >proc/sys/kernel/modprobe
hostname vm
ip link set lo up

while IFS='	' read -r tag options path; do
    mkdir -p "/root$path"
    p9 "$tag" "/root$path" "cache=mmap,$options"
done <run/vm/job/shares

if [ "$DISK" ]; then
    chroot . /run/vm/modprobe -a virtio_blk crc32c_generic ext4
    mkdir -p scratch
    mount -t ext4 dev/vda scratch
    mkdir -m 711 scratch/containerd
    mount --bind scratch/containerd var/lib/containerd
fi

if [ "$SYSTEMD" ]; then
    # Just systemd, D-Bus and the command, without the host's other units.
    mkdir -p run/systemd/system
    cd run/systemd/system
    cat >dbus.socket <<UNIT
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
    cat >dbus.service <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
UNIT
    cat >vm.service <<UNIT
[Unit]
DefaultDependencies=no
Wants=dbus.socket
After=dbus.socket
[Service]
Type=exec
ExecStart=/run/vm/runner
Delegate=yes
StandardInput=null
StandardOutput=null
StandardError=null
UNIT
    cat >vm.target <<UNIT
[Unit]
DefaultDependencies=no
Wants=vm.service
UNIT
    export SYSTEMD_GENERATOR_PATH=/run/vm/none
    export SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/vm/none
    exec switch_root /root /lib/systemd/systemd --unit=vm.target
fi
exec switch_root /root /run/vm/runner
