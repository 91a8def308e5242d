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
# (cargo-zigbuild) and the writer of wheels (maturin) come from PyPI. All results are in target/packaging/.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/target/packaging
GLIBC=2.17

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The same sources give the same packages.
date=$(git log -1 --format=%cs 2>/dev/null || date +%F)
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(date -d "$date" +%s)

tools() {
    [ -x "$out/venv/bin/maturin" ] && return
    python3 -m venv "$out/venv"
    "$out/venv/bin/pip" -q install cargo-zigbuild==0.24.1 ziglang==0.17.1 maturin==1.16.0
}

# What is the same for all targets, as it lies below a prefix such as /usr.
share() {
    local share=$out/share
    rm -rf "$share"
    mkdir -p "$share"/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d,doc/pytf}
    cargo build -q --bin pytf --example man
    target/debug/examples/man "$share/man/man1" "$date"
    target/debug/pytf completions bash >"$share/bash-completion/completions/pytf"
    target/debug/pytf completions zsh >"$share/zsh/site-functions/_pytf"
    target/debug/pytf completions fish >"$share/fish/vendor_completions.d/pytf.fish"
    cp -r README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT docs slurm examples "$share/doc/pytf/"
    rm -rf "$share"/doc/pytf/examples/*/*_workdir
    python3 packaging/licences.py x86_64-unknown-linux-gnu >"$share/doc/pytf/LICENSES-THIRD-PARTY"
}

# tarball TRIPLE SUFFIX NAME: builds the program for the triple, and packs it.
tarball() {
    local triple=$1 suffix=$2 name=pytf-$version-$3
    rustup target list --installed | grep -qx "$triple" || rustup target add "$triple"
    PATH=$out/venv/bin:$PATH cargo zigbuild --release --bin pytf --target "$triple$suffix" \
        --config 'profile.release.strip=true'
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name/bin"
    cp "target/$triple/release/pytf" "$out/$name/bin/"
    cp -r "$out/share" "$out/$name/"
    mkdir -p "$out/$name/share/modulefiles/pytf"
    cp packaging/module.lua "$out/$name/share/modulefiles/pytf/$version.lua"
    tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        -cf - "$name" | gzip -n >"$out/$name.tar.gz"
    echo "$out/$name.tar.gz: a program of $(stat -c %s "$out/$name/bin/pytf") bytes"
}

# root NAME FOLDER: the files of a tarball as they lie on a system.
root() {
    rm -rf "$2"
    mkdir -p "$2/usr"
    cp -r "$out/$1/bin" "$out/$1/share" "$2/usr/"
    rm -r "$2/usr/share/modulefiles"
    gzip -n "$2"/usr/share/man/man1/*.1
}

# deb_package NAME ARCHITECTURE
deb_package() {
    local root=$out/deb
    command -v dpkg-deb >/dev/null || { echo "SKIPPED the .deb: there is no dpkg-deb"; return; }
    root "$1" "$root"
    mkdir "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<END
Package: pytf
Version: $version
Architecture: $2
Maintainer: the pytf developers <pytf@users.noreply.github.com>
Depends: libc6 (>= $GLIBC)
Recommends: bash
Section: science
Priority: optional
Description: MPI-style task farmer for clusters
 pytf runs a list of commands on every node of a Slurm or PBS allocation. Its
 processes meet in a folder on the shared file system; there is no server.
END
    dpkg-deb --root-owner-group --build "$root" "$out/pytf_${version}_$2.deb" >/dev/null
    rm -r "$root"
}

# rpm_package NAME ARCHITECTURE
rpm_package() {
    command -v rpmbuild >/dev/null || { echo "SKIPPED the .rpm: there is no rpmbuild"; return; }
    root "$1" "$out/rpm/root"
    rpmbuild -bb --quiet --target "$2" --define "_topdir $out/rpm" --define "_rpmdir $out" \
        --define "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm" --define "tree $out/rpm/root" \
        --define "version $version" --define "glibc $GLIBC" packaging/pytf.spec
    rm -r "$out/rpm"
}

# wheel TRIPLE: the same program, built once, with what pip puts below its prefix.
wheel() {
    local share=packaging/wheel/data/share
    trap "rm -rf $share/{man,bash-completion,zsh,fish} $share/doc/pytf/LICENSES-THIRD-PARTY" EXIT
    rm -rf $share/{man,bash-completion,zsh,fish}
    cp -r "$out"/share/{man,bash-completion,zsh,fish} $share/
    cp "$out/share/doc/pytf/LICENSES-THIRD-PARTY" $share/doc/pytf/
    PATH=$out/venv/bin:$PATH maturin build -q --release --zig --target "$1" --compatibility manylinux2014 \
        --config 'profile.release.strip=true' --out "$out"
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
mkdir -p "$out"
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
sha256sum -- *.tar.gz *.deb *.rpm *.whl >SHA256SUMS 2>/dev/null || true
cat SHA256SUMS
