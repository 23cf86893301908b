#!/bin/sh
# Builds helm from Go modules into the user's cache, once per version. Prints the program; the tests use the one in
# HELM, else the one on the PATH, else this.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || { echo "no Go toolchain: install Go 1.24 or later, or put helm on the PATH" >&2; exit 1; }
version=$(sed -n 's/.*helm.sh\/helm\/v3 \(v[0-9.]*\).*/\1/p' "$here/go.mod" | head -1)
kube=$(sed -n 's/.*k8s.io\/client-go v0\.\([0-9]*\)\..*/\1/p' "$here/go.mod" | head -1)
stamp=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-16)
out="${XDG_CACHE_HOME:-$HOME/.cache}/tickmesh/helm-$version-$stamp"
if [ ! -x "$out/helm" ]; then
    echo "building helm $version (once; a few minutes) ..." >&2
    mkdir -p "$out"
    work=$(mktemp -d "$out/.build-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$here"
    at=helm.sh/helm/v3
    # What `helm template` takes for the cluster's version, as helm's own release does it.
    flags="-s -w -X $at/internal/version.version=$version"
    for package in $at/pkg/lint/rules $at/pkg/chartutil; do
        flags="$flags -X $package.k8sVersionMajor=1 -X $package.k8sVersionMinor=$kube"
    done
    go build -trimpath -ldflags "$flags" -o "$work/helm" helm.sh/helm/v3/cmd/helm
    mv "$work/helm" "$out/"
fi
echo "$out/helm"
