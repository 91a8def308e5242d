#!/bin/bash
# Tries what packaging/build.sh has made, as the people who are given it would.
#
#     packaging/check.sh                # all that is in target/packaging
#
# - SHA256SUMS has all packages, and is right about them.
# - The program of each package is stripped, at most 6 MiB large, and needs no symbol of a glibc later than the promised one;
#   the static one needs nothing. All are of the same version.
# - The tarballs for this machine run in a root of the oldest Debian that can be had, with an empty environment: a farm, its
#   man pages, completions. So does the .deb, and the .rpm, and both are removed without a trace,
#   empty folders included.
# - The wheel is installed by pip into a new environment, and removed.
# - EasyBuild makes a module of it, which Lmod loads, as it does the module file of the tarball.
# - rattler-build reads the recipe of conda-forge; that of Spack is a Python file of this version.
# - The commands of docs/install.md are run as they are.
# - The program for aarch64 starts in qemu.
#
# Needs readelf; root, debootstrap and unshare for the old root, python3-venv, rpm; qemu-user and libc6-arm64-cross. What is
# missing is named on a line "SKIPPED ...". The old root stays in /var/tmp/pytf-packaging for the next time,
# as clean as it was; all else that is made here is in target/check/.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
out=$PWD/target/packaging
work=$PWD/target/check
GLIBC=2.17
LARGEST=$((6 * 1024 * 1024))
OLD=bullseye
root=/var/tmp/pytf-packaging/$OLD

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
native=pytf-$version-x86_64-linux-glibc$GLIBC
static=pytf-$version-x86_64-linux-static
foreign=pytf-$version-aarch64-linux-glibc$GLIBC

fail() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "SKIPPED $*"; }

sums_hold() {
    (cd "$out" && sha256sum --quiet -c SHA256SUMS) || fail "SHA256SUMS"
    diff <(cut -c 67- "$out/SHA256SUMS" | LC_ALL=C sort) <(LC_ALL=C ls -A "$out" | grep -vx SHA256SUMS) ||
        fail "target/packaging has more, or less, than SHA256SUMS"
    echo "SHA256SUMS: all $(wc -l <"$out/SHA256SUMS") packages"
}

# symbols NAME PROGRAM: its size, and the highest version of glibc that it asks for.
symbols() {
    local name=$1 program=$2 said highest
    said=$(readelf -lSVW "$program") || fail "$name: readelf does not read its program"
    highest=$(grep -o 'GLIBC_[0-9.]*' <<<"$said" | sort -uV | tail -n 1) || true
    if [[ $name = *static* ]]; then
        [[ -z $highest && $said != *" INTERP "* ]] || fail "$name is not static"
    else
        [[ -n $highest && $said = *" INTERP "* ]] || fail "$name asks for no glibc"
        [ "$(printf '%s\nGLIBC_%s\n' "$highest" "$GLIBC" | sort -V | tail -n 1)" = "GLIBC_$GLIBC" ] ||
            fail "$name needs $highest: $(readelf -W --dyn-syms "$program" | grep -F "@$highest")"
    fi
    [[ $said != *" .symtab "* ]] || fail "$name is not stripped"
    [ "$(stat -c %s "$program")" -le $LARGEST ] || fail "$name: a program larger than $LARGEST bytes"
    echo "$name: $(stat -c %s "$program") bytes, ${highest:-static}"
}

# unpack NAME: into $work/unpacked/NAME.
unpack() {
    local file=$out/$1 folder=$work/unpacked/$1
    mkdir -p "$folder"
    case $1 in
    *.tar.gz) tar -C "$folder" --strip-components=1 -xzf "$file" ;;
    *.deb) dpkg-deb -x "$file" "$folder" ;;
    *.rpm) rpm2archive - <"$file" | tar -C "$folder" -xz ;;
    *.whl) python3 -m zipfile -e "$file" "$folder" ;;
    esac
}

programs_hold() {
    local name
    rm -rf "$work/unpacked"
    for name in "$native" "$static" "$foreign"; do
        [ -e "$out/$name.tar.gz" ] || skip "$name: packaging/build.sh has not built it"
    done
    while read -r name; do
        if [[ $name = *.rpm ]] && ! command -v rpm2archive >/dev/null; then
            skip "$name: there is no rpm2archive"
            continue
        fi
        unpack "$name"
        symbols "$name" "$(find "$work/unpacked/$name" -type f \( -path '*/bin/pytf' -o -path '*/scripts/pytf' \))"
    done < <(cut -c 67- "$out/SHA256SUMS")
}

# has_version COMMAND: it says the version that the others said, with the commit.
has_version() {
    local said
    said=$("$@" --version)
    [[ $said = "pytf $version"* && ${printed:=$said} = "$said" ]] || fail "$* is $said, not ${printed:-of $version}"
}

old_root() {
    [ ! -e "$root.done" ] || return 0
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=bash-completion,man-db "$OLD" "$root" >"$root.log" 2>&1 || return 1
    touch "$root.done"
}

# Takes out of the old root what a check has left there.
clean() {
    [ "$(id -u)" = 0 ] && [ -e "$root.done" ] || return 0
    inside 'dpkg --purge pytf' >/dev/null 2>&1 || true
    if [ -e "$root/var/tmp/rpm" ]; then
        rpm --root "$root" --dbpath /var/tmp/rpm -e --nodeps pytf >/dev/null 2>&1 || true
    fi
    rm -rf "$root/opt/pytf" "$root/var/tmp/rpm" "$root"/tmp/*
    find "$root"/usr/share/{fish,licenses,zsh} -depth -type d -empty -delete 2>/dev/null || true
}

# What is in the old root, but for what is written about packages.
listed() {
    (cd "$root" && find . -xdev -regextype egrep \
        -regex '\./(proc|sys|dev|tmp|var/tmp|var/log|var/cache|var/lib/dpkg)' -prune -o -printf '%M %p\n') | LC_ALL=C sort
}

# Runs bash with these words in the old root, which has nothing of ours, not even variables.
inside() {
    unshare -m -p -f --root="$root" --mount-proc --wd=/ env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb bash -euc "$@"
}

# Lays the program into the folder of the old root that $1 names, below a prefix, and uses it.
used() {
    inside '
        PATH=$1/bin:$PATH; export MANPATH=$1/share/man
        folder=$(mktemp -d); trap "rm -rf $folder" EXIT; cd "$folder"
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
    before=$(listed)
    [[ $before != *pytf* ]] || fail "the old root is not clean: $(grep pytf <<<"$before")"
    cp "$out/$deb" "$root/tmp/"
    inside "dpkg -i /tmp/$deb >/dev/null && [ -z \"\$(dpkg --verify pytf)\" ]" || fail "$deb is not installed as it should be"
    used /usr
    has_files "$deb" zsh/vendor-completions/_pytf fish/vendor_completions.d/pytf.fish \
        doc/pytf/{copyright,LICENSES-THIRD-PARTY}
    inside "dpkg -P pytf >/dev/null"
    rm "$root/tmp/$deb"
    diff <(echo "$before") <(listed) || fail "$deb does not leave the old root as it was"
    echo "$deb: installed, used and removed on $OLD"
    if ! command -v rpm >/dev/null || [ ! -e "$out/$rpm" ]; then
        skip "$rpm: there is no rpm"
        return
    fi
    # The root has no rpm that knows of its libc.
    rpm --root "$root" --dbpath /var/tmp/rpm -i --nodeps "$out/$rpm"
    used /usr
    has_files "$rpm" zsh/site-functions/_pytf fish/vendor_completions.d/pytf.fish \
        licenses/pytf/{LICENSE-MIT,LICENSE-APACHE,LICENSES-THIRD-PARTY}
    rpm --root "$root" --dbpath /var/tmp/rpm -e --nodeps pytf
    rm -r "$root/var/tmp/rpm"
    diff <(echo "$before") <(listed) || fail "$rpm does not leave the old root as it was"
    echo "$rpm: installed, used and removed on $OLD"
}

# has_files PACKAGE FILE...: where zsh and fish, and others, look for them.
has_files() {
    local file
    for file in "${@:2}"; do
        [ -s "$root/usr/share/$file" ] || fail "$1 has no /usr/share/$file"
    done
}

wheel_runs() {
    local venv=$work/wheel
    rm -rf "$venv"
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
    local eb=$work/easybuild unpacked=$work/unpacked/$native.tar.gz
    . /usr/share/lmod/lmod/init/bash
    if [ ! -x "$eb/venv/bin/eb" ]; then
        python3 -m venv "$eb/venv"
        "$eb/venv/bin/pip" -q install easybuild-framework==5.4.1 easybuild-easyblocks==5.4.1
    fi
    rm -rf "$eb"/{root,tmp}
    (
        PATH=$eb/venv/bin:$PATH eb --prefix="$eb/root" --sourcepath="$out" --modules-tool=Lmod \
            --allow-use-as-root-and-accept-consequences --tmpdir="$eb/tmp" packaging/recipes/pytf-"$version".eb
    ) >"$eb/log" 2>&1 || { tail -n 20 "$eb/log"; fail "EasyBuild does not install pytf"; }
    local folder said
    for folder in "$eb/root/modules/all" "$unpacked/share/modulefiles"; do
        (
            module use "$folder" && module load "pytf/$version" &&
                [ "$(type -P pytf)" = "$(module show pytf 2>&1 | sed -n 's/.*"PATH", *"\(.*\)").*/\1/p')/pytf" ] &&
                pytf --version >/dev/null && man -w pytf >/dev/null
        ) || fail "module load pytf, of $folder"
    done
    # Variables that are not set stand for the system's folders.
    (
        unset MANPATH XDG_DATA_DIRS
        module use "$unpacked/share/modulefiles" && module load pytf && [ -z "${MANPATH-}" ] &&
            [ "$XDG_DATA_DIRS" = "/usr/local/share:/usr/share:$unpacked/share" ]
    ) || fail "module load pytf does not keep the system's man pages or completions"
    rm -rf "$eb/elsewhere"
    mkdir -p "$eb/elsewhere/pytf"
    cp packaging/module.lua "$eb/elsewhere/pytf/$version.lua"
    said=$(module use "$eb/elsewhere" && module load pytf 2>&1) && fail "a module file at a wrong place is loaded"
    [[ $said = *"share/modulefiles/pytf/VERSION.lua"* ]] || fail "a module file at a wrong place says: $said"
    echo "pytf/$version: a module by EasyBuild, and one by the tarball; Lmod loads both"
}

# rattler-build reads the recipe of conda-forge; conda's packages, which a build needs, are not to be had here.
recipe_is_read() {
    local venv=$work/rattler
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

recipe_of_spack() {
    python3 - packaging/recipes/package.py "$version" <<'END' || fail "packaging/recipes/package.py"
import ast
import sys
with open(sys.argv[1]) as file:
    text = file.read()
calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
assert [call.args[0].value for call in calls if getattr(call.func, "id", "") == "version"] == [sys.argv[2]]
assert f"/pytf/{sys.argv[2]}/" in text
END
    skip "package.py: Spack is not here; only its syntax and version were checked"
}

# The commands of docs/install.md, as they are, by tests/docs. Its `sudo` is the old root's.
page_holds() {
    cargo test -q --locked --test docs --no-run
    CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} DOCS_ROOT=$root DOCS_RUN=install \
        cargo test -q --locked --test docs commands_print >"$work/page.log" 2>&1 || { cat "$work/page.log"; fail "docs/install.md"; }
    echo "docs/install.md: its commands were run"
}

foreign_starts() {
    local qemu=(qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/unpacked/$foreign.tar.gz/bin/pytf") said
    has_version "${qemu[@]}"
    said=$("${qemu[@]}" completions zsh)
    [[ $said = *compdef* ]] || fail "$foreign writes no completions"
    echo "$foreign: starts in qemu, $printed"
}

command -v readelf >/dev/null || fail "there is no readelf (Debian: binutils)"
trap clean EXIT
mkdir -p "$work"
clean
sums_hold
programs_hold
for name in "$native" "$static"; do
    [ ! -e "$out/$name.tar.gz" ] || has_version "$work/unpacked/$name.tar.gz/bin/pytf"
done
if [ -e "$out/$static.tar.gz" ]; then
    said=$("$work/unpacked/$static.tar.gz/bin/pytf" devices)
    [[ $said = *"note: this pytf is linked statically"* ]] || fail "$static does not say why it has no NVML"
fi
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
recipe_of_spack
if [ -e /usr/share/lmod/lmod/init/bash ] && [ -e "$out/$native.tar.gz" ]; then
    modules_load
else
    skip "modules: there is no Lmod"
fi
if [ "$(id -u)" = 0 ] && [ -e "$root.done" ] && [ -x "$work/easybuild/venv/bin/eb" ] && command -v rpm >/dev/null; then
    page_holds
    # It has built them again.
    sums_hold
    programs_hold
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
