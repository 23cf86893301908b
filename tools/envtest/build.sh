#!/bin/sh
# Builds etcd and kube-apiserver from Go modules into the user's cache, once per set of versions.
# Prints the folder; the tests read it from KUBEBUILDER_ASSETS (the convention of envtest).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || { echo "no Go toolchain: install Go 1.24 or later, or set KUBEBUILDER_ASSETS" >&2; exit 1; }
version=$(sed -n "s/.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p" "$here/go.mod" | head -1)
stamp=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-16)
out="${XDG_CACHE_HOME:-$HOME/.cache}/tickmesh/envtest-$version-$stamp"
if [ ! -x "$out/kube-apiserver" ] || [ ! -x "$out/etcd" ]; then
    echo "building etcd and kube-apiserver $version (once; several minutes) ..." >&2
    mkdir -p "$out"
    work=$(mktemp -d "$out/.build-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$here"
    package=k8s.io/component-base/version
    minor=$(echo "$version" | cut -d. -f2)
    flags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
    go build -trimpath -ldflags "-s -w" -o "$work/etcd" go.etcd.io/etcd/server/v3
    go build -trimpath -ldflags "$flags" -o "$work/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
    mv "$work/etcd" "$work/kube-apiserver" "$out/"
fi
echo "$out"
