#!/bin/bash
# Builds what a cluster is given: for each target a tarball, a .deb, a .rpm and a wheel, and their checksums.
#
#     packaging/build.sh                # all targets
#     packaging/build.sh x86_64         # some of: x86_64, aarch64, static
#
# x86_64 and aarch64 need glibc 2.17 (RHEL 7, SLES 12) or a later one, and load NVML where there is one. The static program
# starts on any Linux for x86_64; it cannot load NVML and asks nvidia-smi instead. It comes as a tarball only.
#
# Needs cargo, rustup and python3-venv; dpkg-deb and rpmbuild for the packages of these kinds. The linker (zig), its driver
# (cargo-zigbuild) and the writer of wheels (maturin) come from PyPI. All results are in target/packaging/, and nothing else
# is; what they are made of is in target/packaging-work/.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
out=$PWD/target/packaging
work=$PWD/target/packaging-work
data=$PWD/packaging/wheel/data/share
GLIBC=2.17
TOOLS="cargo-zigbuild==0.24.1 ziglang==0.17.1 maturin==1.16.0"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The same sources give the same packages.
export TZ=UTC SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
date=$(date -d "@$SOURCE_DATE_EPOCH" +%F)

# What goes into the wheel has to lie among the sources meanwhile.
tidy() { rm -rf "$work"/{deb,rpm} "$data"/{man,bash-completion,zsh,fish} "$data/doc/pytf/LICENSES-THIRD-PARTY"; }
trap tidy EXIT

tools() {
    [ "$(cat "$work/venv/tools" 2>/dev/null)" != "$TOOLS" ] || return 0
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    # shellcheck disable=SC2086
    "$work/venv/bin/pip" -q install $TOOLS
    echo "$TOOLS" >"$work/venv/tools"
}

# What is the same for all targets, as it lies below a prefix such as /usr.
share() {
    local share=$work/share musl
    rm -rf "$share"
    mkdir -p "$share"/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d,doc/pytf}
    cargo build -q --locked --bin pytf --example man
    target/debug/examples/man "$share/man/man1" "$date"
    target/debug/pytf completions bash >"$share/bash-completion/completions/pytf"
    target/debug/pytf completions zsh >"$share/zsh/site-functions/_pytf"
    target/debug/pytf completions fish >"$share/fish/vendor_completions.d/pytf.fish"
    cp -r README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT docs slurm examples "$share/doc/pytf/"
    rm -rf "$share"/doc/pytf/examples/*/*_workdir
    musl=$("$work/venv/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')/lib/libc/musl/COPYRIGHT
    python3 packaging/licences.py "$musl" {x86_64,aarch64}-unknown-linux-gnu x86_64-unknown-linux-musl \
        >"$share/doc/pytf/LICENSES-THIRD-PARTY"
    chmod -R u=rwX,go=rX "$share"
}

# tarball TRIPLE SUFFIX NAME: builds the program for the triple, and packs it.
tarball() {
    local triple=$1 suffix=$2 name=pytf-$version-$3
    rustup target list --installed | grep -x "$triple" >/dev/null || rustup target add "$triple"
    PATH=$work/venv/bin:$PATH cargo zigbuild --locked --release --bin pytf --target "$triple$suffix" \
        --config 'profile.release.strip=true'
    rm -rf "${work:?}/$name"
    mkdir -p "$work/$name/bin"
    cp "target/$triple/release/pytf" "$work/$name/bin/"
    cp -r "$work/share" "$work/$name/"
    mkdir -p "$work/$name/share/modulefiles/pytf"
    cp packaging/module.lua "$work/$name/share/modulefiles/pytf/$version.lua"
    tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        -cf - "$name" | gzip -n >"$out/$name.tar.gz"
    echo "$out/$name.tar.gz: a program of $(stat -c %s "$work/$name/bin/pytf") bytes"
}

# root NAME FOLDER: the files of a tarball as they lie on a system.
root() {
    rm -rf "$2"
    mkdir -p "$2/usr"
    cp -r "$work/$1/bin" "$work/$1/share" "$2/usr/"
    rm -r "$2/usr/share/modulefiles"
    gzip -n "$2"/usr/share/man/man1/*.1
}

# deb_package NAME ARCHITECTURE
deb_package() {
    local root=$work/deb
    command -v dpkg-deb >/dev/null || { echo "SKIPPED the .deb: there is no dpkg-deb"; return; }
    root "$1" "$root"
    mkdir "$root/DEBIAN"
    # Its zsh does not look into site-functions.
    mv "$root"/usr/share/zsh/{site-functions,vendor-completions}
    {
        printf 'pytf is under the MIT licence, below, or the Apache licence 2.0, in LICENSE-APACHE.\n'
        printf 'LICENSES-THIRD-PARTY has those of what it is made with.\n\n'
        cat LICENSE-MIT
    } >"$root/usr/share/doc/pytf/copyright"
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    cat >"$root/DEBIAN/control" <<END
Package: pytf
Version: $version
Architecture: $2
Maintainer: the pytf developers <pytf@users.noreply.github.com>
Depends: libc6 (>= $GLIBC)
Installed-Size: $(find "$root/usr" -printf '%y %s\n' | awk '{ n += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print n }')
Section: science
Priority: optional
Description: MPI-style task farmer for clusters
 pytf runs a list of commands on every node of a Slurm or PBS allocation. Its
 processes meet in a folder on the shared file system; there is no server.
END
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/pytf_${version}_$2.deb" >/dev/null
    rm -r "$root"
}

# rpm_package NAME ARCHITECTURE
rpm_package() {
    command -v rpmbuild >/dev/null || { echo "SKIPPED the .rpm: there is no rpmbuild"; return; }
    root "$1" "$work/rpm/root"
    rpmbuild -bb --quiet --target "$2" --define "_topdir $work/rpm" --define "_rpmdir $out" \
        --define "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm" --define "tree $work/rpm/root" \
        --define "version $version" --define "glibc $GLIBC" --define "_buildhost localhost" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" packaging/pytf.spec
    rm -r "$work/rpm"
}

# wheel TRIPLE: the same program, built once, with what pip puts below its prefix.
wheel() {
    tidy
    cp -r "$work"/share/{man,bash-completion,zsh,fish} "$data/"
    cp "$work/share/doc/pytf/LICENSES-THIRD-PARTY" "$data/doc/pytf/"
    PATH=$work/venv/bin:$PATH maturin build -q --locked --release --zig --target "$1" --compatibility manylinux2014 \
        --config 'profile.release.strip=true' --out "$out"
    tidy
}

# unpublish TARGET: its packages, of any version, are no longer there.
unpublish() {
    case $1 in
    x86_64) rm -f "$out"/{pytf-*-x86_64-linux-glibc*.tar.gz,pytf_*_amd64.deb,pytf-*.x86_64.rpm,pytf_hpc-*x86_64.whl} ;;
    aarch64) rm -f "$out"/{pytf-*-aarch64-linux-glibc*.tar.gz,pytf_*_arm64.deb,pytf-*.aarch64.rpm,pytf_hpc-*aarch64.whl} ;;
    static) rm -f "$out"/pytf-*-x86_64-linux-static.tar.gz ;;
    esac
}

targets=("$@")
[ $# -gt 0 ] || targets=(x86_64 aarch64 static)
for target in "${targets[@]}"; do
    case $target in
    x86_64 | aarch64 | static) ;;
    *)
        echo "packaging/build.sh: there is no target $target: x86_64, aarch64 or static" >&2
        exit 2
        ;;
    esac
done
# A full build leaves nothing of an earlier one.
[ $# -gt 0 ] || rm -rf "$out"
mkdir -p "$out" "$work"
rm -f "$out/SHA256SUMS"
for target in "${targets[@]}"; do unpublish "$target"; done
tools
share
for target in "${targets[@]}"; do
    case $target in
    static) tarball x86_64-unknown-linux-musl "" x86_64-linux-static ;;
    *)
        name=$target-linux-glibc$GLIBC
        tarball "$target-unknown-linux-gnu" ".$GLIBC" "$name"
        deb_package "pytf-$version-$name" "$([ "$target" = x86_64 ] && echo amd64 || echo arm64)"
        rpm_package "pytf-$version-$name" "$target"
        wheel "$target-unknown-linux-gnu"
        ;;
    esac
done
cd "$out"
shopt -s nullglob
sha256sum -- "pytf-$version-"*.tar.gz "pytf_${version}_"*.deb "pytf-$version-"*.rpm "pytf_hpc-$version-"*.whl >SHA256SUMS
cat SHA256SUMS
