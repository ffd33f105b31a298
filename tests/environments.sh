# Sourced by parity/environments.sh and adapters/environments.sh: thin environments on top of the development one.
#
# .venv (`make install`) has torch, transformers and pytest; .venv-libraries adds what most of the other libraries import.
# Their environments hold one library and what it pins, and see the other two, and this checkout, through .pth files.
# Needs pip >= 22.3.
set -euo pipefail

BASE="${BASE:-.venv}"
SHARED="datasets==5.2.0 peft==0.21.2 hydra-core==1.3.8 codetiming==1.4.0 cloudpickle==3.1.2"
[ -x "$BASE/bin/python" ] || { echo "$BASE has no python: make install" >&2; exit 1; }

site() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# build FOLDER PACKAGES: makes the environment, unless it is there, of these packages and this interpreter.
build() {
    local folder="$1" packages="$2" wanted here
    wanted="$("$BASE/bin/python" -V) $packages"
    if [ "$(cat "$folder/built" 2>/dev/null)" = "$wanted" ]; then return; fi
    echo "building $folder"
    rm -rf "$folder"
    "$BASE/bin/python" -m venv --without-pip "$folder"
    here="$(site "$folder")"
    pwd > "$here/geomalign.pth"
    if [ "$folder" != .venv-libraries ]; then site .venv-libraries > "$here/libraries.pth"; fi
    site "$BASE" > "$here/zbase.pth" # by name: what is in .venv-libraries comes first
    # shellcheck disable=SC2086
    "$BASE/bin/python" -m pip --disable-pip-version-check --python "$folder/bin/python" install -q --no-compile $packages
    printf '%s' "$wanted" > "$folder/built"
}

# each COMMAND NAME…: COMMAND for every name, four at a time; fails if one failed.
each() {
    local command="$1" name failed=0 running=()
    shift
    for name in "$@"; do
        "$command" "$name" &
        running+=($!)
        if [ ${#running[@]} -eq 4 ]; then
            wait "${running[0]}" || failed=1
            running=("${running[@]:1}")
        fi
    done
    for name in "${running[@]}"; do wait "$name" || failed=1; done
    return $failed
}

build .venv-libraries "$SHARED"
