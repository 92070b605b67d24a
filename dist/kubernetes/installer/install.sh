#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs Wedge on a Kubernetes node and removes it again. Runs in a DaemonSet (docs/kubernetes.md),
# with the node's root at HOST.
#
#   install.sh run        install, label the node; when told to end, undo it if the DaemonSet is gone
#   install.sh install    binary, options, containerd's drop-in; restart containerd if that is new
#   install.sh uninstall  the reverse; keeps the binary while shims run from it, and fails then
#   install.sh retire     delete the DaemonSet, and wait until its pods have undone their work
#
# It never edits a file of the node's that it has not made: the drop-in goes to a directory that
# containerd's configuration imports. Without one, it says what to add, and stops.
set -eu

HOST=${HOST-/host}
PAYLOAD=${PAYLOAD:-/opt/wedge}
BIN_DIR=${BIN_DIR:-/usr/local/bin}
CONTAINERD_CONFIG=${CONTAINERD_CONFIG:-/etc/containerd/config.toml}
# For who knows better than the file says: the directory, and the version of the configuration.
DROPIN_DIR=${DROPIN_DIR:-}
CONFIG_VERSION=${CONFIG_VERSION:-}
# auto: as the node has systemd or not, which is what kubeadm does.
SYSTEMD_CGROUP=${SYSTEMD_CGROUP:-auto}
RESTART=${RESTART:-nsenter --target 1 --mount -- systemctl restart containerd}
# How long shims may take to end, in seconds.
DRAIN_SECONDS=${DRAIN_SECONDS:-20}
LABEL=${LABEL:-wedge.example/installed}

API=${API:-https://${KUBERNETES_SERVICE_HOST:-}:${KUBERNETES_SERVICE_PORT:-443}}
ACCOUNT=${ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}

SHIM=containerd-shim-wedge-v2
MARK='# Made by the installer of Wedge, which also removes it.'

say() { echo "wedge: $*"; }
fail() {
    echo "wedge: $*" >&2
    exit 1
}

# Writes standard input to a file of the node's in one step; true if that changed it.
put() {
    path=$1 mode=$2
    mkdir -p "$(dirname "$path")"
    new=$(mktemp "$path.XXXXXX")
    cat >"$new"
    chmod "$mode" "$new"
    if cmp -s "$new" "$path"; then
        rm -f "$new"
        return 1
    fi
    mv -f "$new" "$path"
}

# The top of containerd's configuration, before its first table, without comments.
config_top() {
    sed -e '/^[[:space:]]*\[/,$d' -e 's/^#.*//' -e 's/[[:space:]]#.*//' "$HOST$CONTAINERD_CONFIG"
}

# Finds DROPIN_DIR and CONFIG_VERSION.
find_dropin() {
    if [ -n "$DROPIN_DIR" ] && [ -n "$CONFIG_VERSION" ]; then return; fi
    [ -f "$HOST$CONTAINERD_CONFIG" ] || fail "there is no $CONTAINERD_CONFIG on this node.
Make it with \`containerd config default\`, with these lines at its top, or, with containerd 2.2 or
later, set DROPIN_DIR=/etc/containerd/conf.d and CONFIG_VERSION=3 in the DaemonSet:
    imports = [\"/etc/containerd/conf.d/*.toml\"]"
    top=$(config_top)
    if [ -z "$CONFIG_VERSION" ]; then
        CONFIG_VERSION=$(echo "$top" | sed -n 's/^[[:space:]]*version[[:space:]]*=[[:space:]]*\([0-9]*\).*/\1/p')
    fi
    if [ -z "$DROPIN_DIR" ]; then
        pattern=$(echo "$top" | tr '\n' ' ' | sed -n 's/.*imports[[:space:]]*=[[:space:]]*\[\([^]]*\)\].*/\1/p' |
            tr ',' '\n' | sed -n "s|^[[:space:]]*[\"']\(/[^\"']*/\*\.toml\)[\"'][[:space:]]*$|\1|p" | head -n1)
        DROPIN_DIR=${pattern%/\*.toml}
    fi
    [ -n "$DROPIN_DIR" ] || fail "$CONTAINERD_CONFIG imports no directory, and it is not ours to edit.
Add this line at its top, restart containerd, and this pod goes on:
    imports = [\"/etc/containerd/conf.d/*.toml\"]"
}

dropin() {
    case $CONFIG_VERSION in
    2 | 3) ;;
    *) fail "$CONTAINERD_CONFIG has version \"$CONFIG_VERSION\"; 2 and 3 are known" ;;
    esac
    echo "$MARK"
    cat "$PAYLOAD/share/wedge/containerd/wedge-v$CONFIG_VERSION.toml"
}

options() {
    systemd=$SYSTEMD_CGROUP
    if [ "$systemd" = auto ]; then
        systemd=false
        [ ! -d "$HOST/run/systemd/system" ] || systemd=true
    fi
    echo "$MARK"
    echo "SystemdCgroup = $systemd"
}

ours() { [ "$(head -n1 "$1" 2>/dev/null)" = "$MARK" ]; }

install() {
    find_dropin
    # Checked before anything is made.
    dropin >/dev/null
    put "$HOST$BIN_DIR/$SHIM" 0755 <"$PAYLOAD/bin/$SHIM" || say "the binary is there"
    # One that is not ours is the operator's.
    options=$HOST/etc/wedge/options.toml
    if [ ! -e "$options" ] || ours "$options"; then options | put "$options" 0644 || :; fi
    if dropin | put "$HOST$DROPIN_DIR/50-wedge.toml" 0644; then
        say "restarting containerd for $DROPIN_DIR/50-wedge.toml"
        $RESTART || fail "containerd was not restarted: $RESTART"
    fi
    say "installed"
}

# Processes of the node that run from the binary.
shims() {
    for exe in "$HOST"/proc/[0-9]*/exe; do
        [ "$(readlink "$exe" 2>/dev/null | sed 's/ (deleted)$//')" != "$BIN_DIR/$SHIM" ] || echo "$exe"
    done
}

uninstall() {
    find_dropin
    if ours "$HOST$DROPIN_DIR/50-wedge.toml"; then
        rm -f "$HOST$DROPIN_DIR/50-wedge.toml"
        $RESTART || fail "containerd was not restarted: $RESTART"
    fi
    waited=0
    while [ -n "$(shims)" ]; do
        [ "$waited" -lt "$DRAIN_SECONDS" ] ||
            fail "$(shims | wc -l) pods still run with Wedge; $BIN_DIR/$SHIM stays for them"
        sleep 1
        waited=$((waited + 1))
    done
    rm -f "$HOST$BIN_DIR/$SHIM"
    if ours "$HOST/etc/wedge/options.toml"; then rm -f "$HOST/etc/wedge/options.toml"; fi
    rmdir "$HOST/etc/wedge" 2>/dev/null || :
    say "uninstalled"
}

# Calls the API; prints the body, and the status on a line of its own.
api() {
    method=$1 path=$2
    shift 2
    curl --silent --show-error --max-time 20 --cacert "$ACCOUNT/ca.crt" \
        --header "Authorization: Bearer $(cat "$ACCOUNT/token")" \
        --request "$method" --write-out '\n%{http_code}\n' "$@" "$API$path"
}

# label true, or label null to take it off.
label() {
    value=$1
    [ "$value" = null ] || value="\"$value\""
    status=$(api PATCH "/api/v1/nodes/${NODE_NAME:?}" \
        --header 'Content-Type: application/merge-patch+json' \
        --data "{\"metadata\":{\"labels\":{\"$LABEL\":$value}}}" | tail -n1)
    [ "$status" = 200 ] || fail "labelling the node: status $status"
}

daemonset() { echo "/apis/apps/v1/namespaces/${NAMESPACE:?}/daemonsets/${DAEMONSET:?}"; }

# Whether the DaemonSet is gone or going: not when this pod is only replaced by a newer one, or the
# node is drained.
retired() {
    answer=$(api GET "$(daemonset)")
    case $(echo "$answer" | tail -n1) in
    404) return 0 ;;
    200) echo "$answer" | grep -q '"deletionTimestamp"' ;;
    *) fail "asking for the DaemonSet: $(echo "$answer" | tail -n1); the node stays as it is" ;;
    esac
}

run() {
    : "${NODE_NAME:?}" "${NAMESPACE:?}" "${DAEMONSET:?}"
    # From here on: what is told to end while it installs has something to undo.
    ended=''
    trap 'ended=1' TERM INT
    install
    label true
    # A signal ends `wait`, and at the latest the next look finds it.
    while [ -z "$ended" ]; do
        sleep 2 >/dev/null 2>&1 &
        wait $! || :
    done
    if retired; then
        label null
        uninstall
    else
        say "the DaemonSet is there: the node stays as it is"
    fi
}

retire() {
    status=$(api DELETE "$(daemonset)?propagationPolicy=Foreground" | tail -n1)
    case $status in
    200 | 202 | 404) ;;
    *) fail "deleting the DaemonSet: status $status" ;;
    esac
    until [ "$(api GET "$(daemonset)" | tail -n1)" = 404 ]; do sleep 1; done
    say "retired"
}

case ${1:-} in
run | install | uninstall | retire) "$1" ;;
*) fail "usage: install.sh run | install | uninstall | retire" ;;
esac
