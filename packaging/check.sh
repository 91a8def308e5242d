#!/bin/bash
# Tries what packaging/build.sh has made, as the people who are given it would.
#
#     packaging/check.sh                # all that is in target/packaging
#
# - No program needs a symbol of a glibc later than the promised one, or is larger than 6 MiB.
# - The tarballs for this machine run in a root of the oldest Debian that can be had, with an empty environment: a farm, its
#   man pages, completions. So does the .deb, and the .rpm, and both are removed without a trace.
# - The wheel is installed by pip into a new environment, and removed.
# - EasyBuild makes a module of it, which Lmod loads, as it does the module file of the tarball.
# - rattler-build reads the recipe of conda-forge.
# - The commands of docs/install.md are run as they are.
# - The program for aarch64 starts in qemu.
#
# Needs root, debootstrap and unshare for the old root, python3-venv, rpm; qemu-user and libc6-arm64-cross. What is missing is
# named on a line "SKIPPED ...". The old root stays in /var/tmp/pytf-packaging for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/target/packaging
GLIBC=2.17
LARGEST=$((6 * 1024 * 1024))
OLD=bullseye

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
native=pytf-$version-x86_64-linux-glibc$GLIBC
static=pytf-$version-x86_64-linux-static
foreign=pytf-$version-aarch64-linux-glibc$GLIBC

fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "SKIPPED $*"; }

# The highest version of glibc that a program asks for, and its size.
symbols() {
    local program=$1 highest
    highest=$(readelf -VW "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 || true)
    [ "$(printf '%s\nGLIBC_%s\n' "$highest" "$GLIBC" | sort -V | tail -n 1)" = "GLIBC_$GLIBC" ] ||
        fail "$program needs $highest: $(readelf -sW --dyn-syms "$program" | grep -F "@$highest" | head -n 3)"
    [ "$(stat -c %s "$program")" -le $LARGEST ] || fail "$program is larger than $LARGEST bytes"
    echo "$program: $(stat -c %s "$program") bytes, ${highest:-no glibc}"
}

old_root() {
    root=/var/tmp/pytf-packaging/$OLD
    [ ! -e "$root.done" ] || return 0
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=bash-completion,man-db "$OLD" "$root" >"$root.log" 2>&1 || return 1
    touch "$root.done"
}

# Runs bash with these words in the old root, which has nothing of ours, not even variables.
inside() {
    unshare -m -p -f --root="$root" --mount-proc --wd=/ env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb bash -euc "$@"
}

# Lays the program into the folder of the old root that $1 names, below a prefix, and uses it.
used() {
    inside '
        PATH=$1/bin:$PATH; export MANPATH=$1/share/man
        cd "$(mktemp -d)"
        pytf --version
        printf "echo %s\n" one two >tasks.txt; echo false >>tasks.txt
        status=0; pytf tasks.txt --proc 2 2>said || status=$?
        [ $status = 1 ] || { cat said; exit 1; }
        [ "$(sort tasks.txt_workdir/finished | tr "\n" " ")" = "0 echo one 1 echo two " ]
        [ "$(cat tasks.txt_workdir/failed)" = "2 false" ]
        [ "$(pytf log tasks.txt_workdir 1 2>/dev/null)" = two ]
        pytf status tasks.txt_workdir >/dev/null
        pytf devices >/dev/null
        for page in pytf pytf-status pytf-completions; do
            MANWIDTH=80 man "$page" 2>&1 | grep -q "EXIT STATUS"
        done
        . $1/share/bash-completion/completions/pytf
        COMP_WORDS=(pytf retry tasks.txt_workdir ""); COMP_CWORD=3; COMP_TYPE=9
        _clap_complete_pytf pytf "" tasks.txt_workdir
        [ "${COMPREPLY[0]}" = 2 ]
    ' used "$1"
}

tarball_runs() {
    rm -rf "${root:?}/opt/pytf"
    mkdir -p "$root/opt/pytf"
    tar -C "$root/opt/pytf" --strip-components=1 -xzf "$out/$1.tar.gz"
    used /opt/pytf
    grep -q "^clap 4" "$root/opt/pytf/share/doc/pytf/LICENSES-THIRD-PARTY" || fail "$1 has no licences of others"
    rm -r "$root/opt/pytf"
    echo "$1.tar.gz: runs on $OLD, glibc $(inside 'ldd --version' | sed -n '1s/.* //p')"
}

packages_run() {
    local deb=pytf_${version}_amd64.deb rpm=pytf-$version-1.x86_64.rpm before
    before=$(find "$root/usr" -name '*pytf*')
    [ -z "$before" ] || fail "the old root is not clean: $before"
    cp "$out/$deb" "$root/tmp/"
    inside "dpkg -i /tmp/$deb >/dev/null"
    used /usr
    inside "dpkg -P pytf >/dev/null"
    rm "$root/tmp/$deb"
    [ -z "$(find "$root/usr" -name '*pytf*')" ] || fail "$deb leaves files behind"
    echo "$deb: installed, used and removed on $OLD"
    if ! command -v rpm >/dev/null || [ ! -e "$out/$rpm" ]; then
        skip "$rpm: there is no rpm"
        return
    fi
    # The root has no rpm that knows of its libc.
    rpm --root "$root" --dbpath /var/tmp/rpm -i --nodeps "$out/$rpm"
    used /usr
    rpm --root "$root" --dbpath /var/tmp/rpm -e --nodeps pytf
    rm -r "$root/var/tmp/rpm"
    [ -z "$(find "$root/usr" -name '*pytf*')" ] || fail "$rpm leaves files behind"
    echo "$rpm: installed, used and removed on $OLD"
}

wheel_runs() {
    local venv
    venv=$(mktemp -d)
    python3 -m venv "$venv"
    "$venv/bin/pip" -q --disable-pip-version-check install --no-index "$out"/pytf_hpc-"$version"-*x86_64.whl
    (cd "$venv" && echo true >tasks.txt && env -i PATH="$venv/bin:/usr/bin:/bin" pytf -q tasks.txt)
    [ -s "$venv/share/man/man1/pytf.1" ] || fail "the wheel has no man page"
    [ -s "$venv/share/bash-completion/completions/pytf" ] || fail "the wheel has no completions"
    [ -s "$venv/share/doc/pytf/LICENSES-THIRD-PARTY" ] || fail "the wheel has no licences of others"
    # The client finds the program that was installed with it, whatever is in PATH.
    (cd "$venv" && env -i PATH=/usr/bin:/bin bin/python -B -c '
from pytf_hpc import Run
run = Run("tasks.txt_workdir")
assert run.pytf.endswith("/bin/pytf") and run.status().state == "complete"
(result,) = run.results()
assert result.ok, result
') || fail "the Python client of the wheel"
    "$venv/bin/pip" -q --disable-pip-version-check uninstall -y pytf-hpc
    [ ! -e "$venv/bin/pytf" ] && ! ls -d "$venv"/lib/python*/site-packages/pytf* 2>/dev/null || fail "the wheel leaves something behind"
    rm -r "$venv"
    echo "the wheel: installed by pip, used, also from Python, and removed"
}

# EasyBuild installs the tarball as a module, and Lmod loads that and the module file of the tarball itself.
modules_load() {
    local eb=$out/easybuild
    . /usr/share/lmod/lmod/init/bash
    if [ ! -x "$eb/venv/bin/eb" ]; then
        python3 -m venv "$eb/venv"
        "$eb/venv/bin/pip" -q install easybuild-framework==5.4.1 easybuild-easyblocks==5.4.1
    fi
    rm -rf "$eb/root"
    (
        PATH=$eb/venv/bin:$PATH eb --prefix="$eb/root" --sourcepath="$out" --modules-tool=Lmod \
            --allow-use-as-root-and-accept-consequences --tmpdir="$eb" packaging/recipes/pytf-"$version".eb
    ) >"$eb/log" 2>&1 || { tail -n 20 "$eb/log"; fail "EasyBuild does not install pytf"; }
    local folder
    for folder in "$eb/root/modules/all" "$out/$native/share/modulefiles"; do
        (
            module use "$folder" && module load "pytf/$version" &&
                [ "$(type -P pytf)" = "$(module show pytf 2>&1 | sed -n 's/.*"PATH", *"\(.*\)").*/\1/p')/pytf" ] &&
                pytf --version >/dev/null && man -w pytf >/dev/null
        ) || fail "module load pytf, of $folder"
    done
    echo "pytf/$version: a module by EasyBuild, and one by the tarball; Lmod loads both"
}

# rattler-build reads the recipe of conda-forge; conda's packages, which a build needs, are not to be had here.
recipe_is_read() {
    local venv=$out/rattler
    if [ ! -d "$venv/bin" ]; then
        python3 -m venv "$venv"
        "$venv/bin/pip" -q install py-rattler-build==0.73.0 || { rm -r "$venv"; skip "recipe.yaml: no rattler-build"; return; }
    fi
    # It leaves a folder there.
    TMPDIR=$venv "$venv/bin/python" - packaging/recipes/recipe.yaml "$version" <<'END' || fail "packaging/recipes/recipe.yaml"
import sys
from rattler_build import Stage0Recipe, VariantConfig
with open(sys.argv[1]) as file:
    recipe = Stage0Recipe.from_yaml(file.read())
(variant,) = recipe.render(VariantConfig.from_yaml("c_stdlib: [sysroot]"))
assert variant.recipe.to_dict()["package"] == {"name": "pytf", "version": sys.argv[2]}
END
    echo "recipe.yaml: rattler-build reads it"
}

# The commands of docs/install.md, as they are, by tests/docs. Its `sudo` is the old root's.
page_holds() {
    cargo test -q --test docs --no-run
    CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} DOCS_ROOT=$root DOCS_RUN=install \
        cargo test -q --test docs commands_print >"$out/page.log" 2>&1 || { cat "$out/page.log"; fail "docs/install.md"; }
    echo "docs/install.md: its commands were run"
}

foreign_starts() {
    local qemu=(qemu-aarch64 -L /usr/aarch64-linux-gnu "$out/$foreign/bin/pytf")
    "${qemu[@]}" --version
    "${qemu[@]}" completions zsh | grep -q compdef
    echo "$foreign: starts in qemu"
}

if [ -e "$out/$static.tar.gz" ]; then
    "$out/$static/bin/pytf" devices | grep -q "note: this pytf is linked statically" || fail "$static does not say why it has no NVML"
fi
for name in "$native" "$static" "$foreign"; do
    if [ -e "$out/$name.tar.gz" ]; then
        symbols "$out/$name/bin/pytf"
    else
        skip "$name: packaging/build.sh has not built it"
    fi
done
(cd "$out" && sha256sum --quiet -c SHA256SUMS)
if [ "$(id -u)" = 0 ] && command -v debootstrap >/dev/null && old_root; then
    for name in "$native" "$static"; do
        [ ! -e "$out/$name.tar.gz" ] || tarball_runs "$name"
    done
    [ ! -e "$out/pytf_${version}_amd64.deb" ] || packages_run
else
    skip "an old root: neither root nor debootstrap, or no network"
fi
[ ! -e "$out/$native.tar.gz" ] || wheel_runs
recipe_is_read
if [ -e /usr/share/lmod/lmod/init/bash ] && [ -e "$out/$native.tar.gz" ]; then
    modules_load
else
    skip "modules: there is no Lmod"
fi
if [ -e "${root:-}.done" ] && [ -x "$out/easybuild/venv/bin/eb" ] && command -v rpm >/dev/null; then
    page_holds
else
    skip "the commands of docs/install.md: no old root, no rpm or no Lmod"
fi
if [ -e "$out/$foreign.tar.gz" ]; then
    if command -v qemu-aarch64 >/dev/null && [ -d /usr/aarch64-linux-gnu ]; then
        foreign_starts
    else
        skip "$foreign: there is no qemu-user or libc6-arm64-cross"
    fi
fi
