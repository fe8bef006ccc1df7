#!/bin/bash
# Installs what a target needs and says so: scripts/setup.sh demo | test. A second run only looks.
#
# demo:    what the mesh needs to run, and the programs that the demo shows it with
# test:    the above, compilers, every real program that the tests and the bench run, an emulator, and Debian's stock
#          kernel unpacked beside the tests (not installed: this machine's own boot files stay as they are)
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=/usr/bin/python3 # the only interpreter that Debian's python3-bpfcc is for, whatever stands first in PATH
VENV=.venv
KERNELS=tests/.build/kernels

say() { printf 'sockmesh setup: %s\n' "$*"; }
fail() {
	printf 'sockmesh setup: %s\n' "$*" >&2
	exit 1
}

group=${1:-demo}
packages=(python3 python3-venv python3-bpfcc linux-libc-dev iproute2 iputils-ping util-linux procps gcc libc6-dev
	nginx-light wrk curl redis-server redis-tools)
tests='.[dev,kernels,bench]'
extra='.'
case $group in
demo) ;;
test)
	packages+=(python3-dev make haproxy socat memcached iperf3 nftables nghttp2-client nghttp2-server bind9-dnsutils
		golang-go postgresql liburing-dev qemu-system-x86 busybox-static kmod udev)
	command -v node >/dev/null || packages+=(nodejs)
	extra=$tests
	;;
*) fail "unknown group '$group': say demo or test" ;;
esac

. /etc/os-release 2>/dev/null || true
command -v apt-get >/dev/null || fail "this is ${PRETTY_NAME:-not Debian}; make installs its packages with apt-get and" \
	"needs Debian 12 or newer (on another system install the packages named in scripts/setup.sh by hand)."
[ ! -L $VENV ] || fail "$VENV is a link to $(readlink $VENV): what is installed here would turn that environment, and" \
	"the checkout it belongs to, to this one; remove the link (rm $VENV) and run it again."
[ "$(id -u)" = 0 ] || fail "BPF programs, network namespaces and apt-get need root: run it again with sudo."

missing=()
for package in "${packages[@]}"; do
	case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) in
	ii*) ;;
	*) missing+=("$package") ;;
	esac
done
if [ ${#missing[@]} -gt 0 ]; then
	say "${#missing[@]} Debian packages are missing: ${missing[*]}"
	started=$SECONDS
	# The servers among them are only run by hand, inside test pods: none may start on this machine.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	export DEBIAN_FRONTEND=noninteractive
	say "apt-get update"
	apt-get -q=2 -o DPkg::Lock::Timeout=300 update
	say "apt-get install (a minute or two)"
	apt-get -q=2 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" \
		>"${TMPDIR:-/tmp}/sockmesh-apt.log" 2>&1 ||
		fail "apt-get install failed: $(grep -m1 '^E:' "${TMPDIR:-/tmp}/sockmesh-apt.log" || echo "see its log")" \
			"(whole output in ${TMPDIR:-/tmp}/sockmesh-apt.log)"
	say "Debian packages are there after $((SECONDS - started)) s"
fi

# An inherited PYTHONPATH or pyenv shim would mix another interpreter's packages into ours.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
here=$(pwd -P)
wanted() { echo "$1 $(sha256sum pyproject.toml | cut -d' ' -f1) $here"; }
is_installed() { [ "$(cat "$VENV/.stamp-$1" 2>/dev/null)" = "$(wanted "$2")" ]; }
# Scripts in it name its directory: in a checkout that was moved or copied they lead to the old one.
if [ ! -x $VENV/bin/python ] || ! grep -qsF "$here/$VENV/bin/" $VENV/bin/pip ||
	! $VENV/bin/python -c 'import bcc' 2>/dev/null; then
	say "making the virtual environment $VENV from $PYTHON"
	$PYTHON -m venv --clear --system-site-packages $VENV
fi
# What tests need is all that the demo needs.
if ! is_installed "$group" "$extra" && ! is_installed test "$tests"; then
	say "installing Python packages into $VENV ($extra)"
	started=$SECONDS
	$VENV/bin/python -m pip install -qq --disable-pip-version-check --no-input --editable "$extra" ||
		fail "pip could not install the Python packages; its own words are above."
	rm -rf $VENV/lib/python3*/site-packages/loader # an editable install copies bpf/ there, and the copy would go stale
	wanted "$extra" >"$VENV/.stamp-$group"
	say "Python packages are there after $((SECONDS - started)) s"
fi

if [ "$group" = test ]; then
	image=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n1)
	if [ -z "$image" ]; then
		apt-get -q=2 -o DPkg::Lock::Timeout=300 update
		image=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n1)
	fi
	[ -n "$image" ] || fail "apt-cache knows no linux-image-amd64: is this an amd64 Debian?"
	release=${image#linux-image-}
	tree=$KERNELS/$release
	if [ ! -e "$tree/.unpacked" ]; then
		say "unpacking Debian's kernel $release into $tree"
		rm -rf "$tree" && mkdir -p "$tree"
		(cd "$tree" && apt-get -q=2 -o APT::Sandbox::User=root download "$image")
		dpkg-deb -x "$tree"/*.deb "$tree"
		rm -f "$tree"/*.deb
		[ -e "$tree/lib/modules" ] || ln -s usr/lib "$tree/lib" # a merged /usr keeps the modules under usr/lib
		# Only what namespaces, veths and the emulator's own devices need: for the rest there is no hardware, and looking
		# for it takes longer than booting.
		modules=$tree/lib/modules/$release/kernel
		rm -rf "$modules/sound" "$modules/arch"
		find "$modules/drivers" -mindepth 1 -maxdepth 1 ! -name virtio ! -name net ! -name char ! -name block -exec rm -rf {} +
		find "$modules/drivers/net" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
		depmod -b "$tree" "$release"
		touch "$tree/.unpacked"
	fi
	echo "$release" >$KERNELS/current
	$VENV/bin/python scripts/compile.py
fi
say "ready ($group)"
