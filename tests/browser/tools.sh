# What the checks in a headless browser need, fetched once into target/perfetto:
# puppeteer-core from npm and a Chromium (found, or installed by apt where that is
# allowed). To be sourced; sets CACHE and CHROMIUM. Exit status 2 when something
# is missing.

readonly PUPPETEER=24.43.1

missing() {
    echo "$(basename "$0"): $*" >&2
    exit 2
}

find_chromium() {
    local name
    for name in chromium-headless-shell chromium google-chrome; do
        command -v "$name" && return 0
    done
    return 1
}

for tool in node npm python3; do
    command -v "$tool" >/dev/null || missing "$tool is not installed"
done
CACHE=${PERFETTO_CACHE:-$here/../../target/perfetto}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)
if [ ! -d "$CACHE/node_modules/puppeteer-core" ]; then
    # A registry that does not answer must not take ten minutes.
    timeout 240 npm install --silent --no-audit --no-fund --fetch-timeout=60000 --prefix "$CACHE" \
        "puppeteer-core@$PUPPETEER" ||
        missing "cannot fetch puppeteer-core"
fi
if ! CHROMIUM=${CHROMIUM:-$(find_chromium)}; then
    apt-get install -q -y -o DPkg::Lock::Timeout=120 --no-install-recommends chromium-headless-shell >&2 ||
        missing "no Chromium: install one or set CHROMIUM to it"
    CHROMIUM=$(find_chromium)
fi
export CHROMIUM
cp "$here/../browser/browser.mjs" "$CACHE/"
