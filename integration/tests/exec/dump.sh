# SPDX-License-Identifier: Apache-2.0
look() {
    echo "# $1"
    while IFS= read -r line || [ -n "$line" ]; do echo "$line"; done <"/proc/self/$1"
}
for file in status limits oom_score_adj cgroup personality timerslack_ns coredump_filter setgroups \
    uid_map gid_map timens_offsets loginuid sessionid stat; do look $file; done
echo "# attr/current"; cat /proc/self/attr/current 2>&1
echo "# environ"; { tr '\0' '\n'; } </proc/self/environ
echo "# umask"; umask
echo "# sched"; grep -E '^(policy|prio) ' /proc/$$/sched
echo "# ioprio"; ionice -p $$
echo "# links"; for link in cwd root exe; do echo "$link $(readlink /proc/$$/$link)"; done
for link in /proc/$$/ns/*; do echo "ns ${link##*/} $(readlink $link)"; done
echo "# descriptors"
for fd in /proc/$$/fd/*; do
    [ -e "$fd" ] && echo "${fd##*/} $(readlink $fd) $(stat -Lc '%F %u:%g %a %t:%T' $fd)"
done
echo "# tty"; if tty; then stat -c '%u:%g %a %t:%T' $(tty); stty size; stty -a; fi
echo "# keys"; grep -F _ses. /proc/keys
echo "# id"; id
exit 7
