#!/usr/bin/env bash
# Builds sdist and wheel, and tries the wheel where nothing else is: with its core dependencies in an environment of its own, and on
# every Python from 3.10 to 3.13 that is here. Where torch has no CPU wheel for a Python, its checks are those that need no torch.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
WORK=${WORK:-$(mktemp -d)}
PIP="-m pip --disable-pip-version-check --no-input -q"
mkdir -p "$WORK"
trap 'rm -rf "$WORK"' EXIT

echo "== sdist, and the wheel made from it"
"$PYTHON" -m venv "$WORK/build"
"$WORK/build/bin/python" $PIP install build
"$WORK/build/bin/python" -m build --outdir "$WORK/dist" . >"$WORK/build.log" 2>&1 || { tail -30 "$WORK/build.log"; exit 1; }
ls -l "$WORK/dist" | awk 'NR > 1 {print $5, $9}'
wheel=$(ls "$WORK"/dist/*.whl)

interpreters() {
    for version in 3.10 3.11 3.12 3.13; do
        for candidate in "$(command -v "python$version" || true)" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
            if "$candidate" -c 'import venv' 2>/dev/null; then # a shim may stand for a Python that is not chosen
                echo "$candidate"
                break
            fi
        done
    done
}

main=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for interpreter in $(interpreters); do
    version=$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "== Python $version"
    "$interpreter" -m venv "$WORK/$version"
    python="$WORK/$version/bin/python"
    if [ "$version" = "$main" ]; then
        "$python" $PIP install -c constraints.txt torch
        "$python" $PIP install -c constraints.txt "$wheel"
        (cd "$WORK" && "$python" -W error::SyntaxWarning "$OLDPWD/tests/packaging/check.py" --torch "$WORK/$version/bin/geomalign")
    else
        "$python" $PIP install --no-deps "$wheel"
        "$python" $PIP install typer rich lazy_loader pydantic tomli
        (cd "$WORK" && "$python" -W error::SyntaxWarning "$OLDPWD/tests/packaging/check.py")
    fi
done
