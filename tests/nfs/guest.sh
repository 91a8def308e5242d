#!/bin/bash
# Makes what the nodes boot, once: guest.sh FOLDER. A user-mode Linux kernel, and a
# root with what an NFS server and its clients need, of the Debian release of this
# machine, so that programs built here run there.
set -euo pipefail
folder=$1
init=$(realpath "$(dirname "$0")/init")
. /etc/os-release
stamp="$VERSION_CODENAME 1"
mkdir -p "$folder"
exec 9<"$folder"
flock 9
cd "$folder"
if [ "$(cat stamp 2>/dev/null)" != "$stamp" ]; then
    rm -rf --one-file-system ./*
    apt-get -q download user-mode-linux || { apt-get -q update && apt-get -q download user-mode-linux; }
    dpkg -x user-mode-linux_*.deb kernel
    rm user-mode-linux_*.deb
    debootstrap --variant=minbase \
        --include=nfs-kernel-server,nfs-common,rpcbind,iproute2,kmod,python3-minimal "$VERSION_CODENAME" root
    cp -a kernel/usr/lib/uml/modules root/lib/
    mkdir -p root/srv/disk
    echo "$stamp" >stamp
fi
# Not in place: a node of another run may be starting it.
cmp -s "$init" root/pytf-init || { cp -p "$init" root/pytf-init.new && mv root/pytf-init.new root/pytf-init; }
