#!/run/vm/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Stage 2 in the VM of vm.sh: runs the command, as PID 1 or as a unit of systemd.
#
# This shell prefers its own applets; COMMAND is started by the real /bin/sh.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 TERM=dumb
. /run/vm/job/config
cd "$CWD" 2>/dev/null || cd /
ulimit -Hn 1048576

port() { # NUMBER: waits for the virtio port and prints its device
    until set -- "$1" /dev/vport*p"$1" && [ -c "$2" ]; do sleep 0.1; done
    echo "$2"
}

if [ "$TTY" ]; then
    # A session of its own on the second serial port.
    TERM=$TTY
    setsid -c /bin/sh /run/vm/job/command <>/dev/ttyS1 >&0 2>&1
    code=$?
else
    # FIFOs, unlike the virtio ports, can be opened more than once.
    mkfifo /run/vm/stdout /run/vm/stderr
    cat /run/vm/stdout >"$(port 1)" & out=$!
    cat /run/vm/stderr >"$(port 2)" & err=$!
    /bin/sh /run/vm/job/command </dev/null >/run/vm/stdout 2>/run/vm/stderr
    code=$?

    # What is left must not keep the FIFOs open, nor complain about the end of
    # the others.
    for signal in STOP KILL; do
        for process in /proc/[0-9]*; do
            process=${process#/proc/}
            case $process in
            1 | $$ | $out | $err) ;;
            *) kill -$signal "$process" 2>/dev/null ;;
            esac
        done
    done
    { sleep 10; kill $out $err; } &
    wait $out $err
fi

echo $code >/run/vm/job/exit
poweroff -f
