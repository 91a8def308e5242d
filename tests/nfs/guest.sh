#!/bin/bash
# Makes what the nodes boot, once: guest.sh FOLDER. A user-mode Linux kernel, and a
# root with what an NFS server and its clients need, of the Debian release of this
# machine, so that programs built here run there.
set -euo pipefail
folder=$1
. /etc/os-release
stamp="$VERSION_CODENAME 1"
[ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
rm -rf --one-file-system "$folder"
mkdir -p "$folder"
cd "$folder"
apt-get -q download user-mode-linux
dpkg -x user-mode-linux_*.deb kernel
debootstrap --variant=minbase \
    --include=nfs-kernel-server,nfs-common,rpcbind,iproute2,kmod,python3-minimal "$VERSION_CODENAME" root
cp -a kernel/usr/lib/uml/modules root/lib/
mkdir -p root/srv/disk
echo "$stamp" >stamp
