#!/bin/sh
# What the image holds, step by step: used by the Dockerfile and, on a machine without a container engine, by its test.
#   tools/image/install.sh PREFIX      PREFIX/{bin,lib} a virtual environment, PREFIX/app the entries, PREFIX/sbom.cdx.json
set -eu
unset PYTHONPATH PYTHONHOME
prefix=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The wheel, with the native half: built with pinned tools that stay out of the image.
"$python" -m venv "$work/build"
"$work/build/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$root/tools/image/build.lock"
"$work/build/bin/python" "$root/pkg/native/build.py" --required --into "$work"
"$work/build/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w "$work/wheels" "$root"

# Exactly what runs, by hash; then the wheel itself.
"$python" -m venv "$prefix"
"$prefix/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: \
    -r "$root/tools/image/runtime.lock"
"$prefix/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-index "$work"/wheels/*.whl

# Entries: tickmesh, and tickmesh-SERVICE for each folder of cmd/, exec'd so that SIGTERM reaches the service.
mkdir -p "$prefix/app"
cp -r "$root/cmd" "$root/operators" "$prefix/app/"
find "$prefix/app" -name __pycache__ -prune -exec rm -rf {} +
for entry in "$prefix"/app/cmd/*/ "$prefix/app/operators/"; do
    name=$(basename "$entry")
    [ "$name" = operators ] && name=operator
    printf '#!/bin/sh\nexec "%s/bin/python" "%s" "$@"\n' "$prefix" "${entry%/}" > "$prefix/bin/tickmesh-$name"
    chmod 755 "$prefix/bin/tickmesh-$name"
done

"$prefix/bin/python" "$root/tools/image/sbom.py" "$root/pkg/native/Cargo.lock" > "$prefix/sbom.cdx.json"
# Nothing is installed into a running container, so the installer goes; a half that is not native must not ship.
"$prefix/bin/python" -m pip uninstall -q -y setuptools pip 2>/dev/null || "$prefix/bin/python" -m pip uninstall -q -y pip
find "$prefix" -name __pycache__ -prune -exec rm -rf {} +
"$prefix/bin/python" -m compileall -q "$prefix/lib" "$prefix/app"
"$prefix/bin/tickmesh" version | grep -q 'hot path: native' || { echo "the native half is not in the wheel" >&2; exit 1; }
