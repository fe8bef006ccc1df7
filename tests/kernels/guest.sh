#!/bin/sh
# Runs inside the emulated machine: mounts what a node has, runs $1/command and leaves its output and status in $1.
# The root file system is the host's, seen read-only; /tmp, /run and the checkout are writable and forgotten at the end.
out=$1 checkout=$2
exec >"$out/guest.log" 2>&1
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
if ! grep -q '^[^ ]* /sys/fs/cgroup cgroup2 ' /proc/mounts; then
	umount -R /sys/fs/cgroup 2>/dev/null
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mkdir -p /run/netns
ip link set lo up
# Pages of a program are fetched one by one over 9p, a file at once: the compiler's libraries are 200 MB, so keep copies.
fast=/tmp/.libraries
mkdir -p $fast
bcc=$(ls /usr/lib/*/libbcc.so.0 2>/dev/null | head -n1)
for library in $bcc $(ldd "$bcc" 2>/dev/null | awk '/LLVM|clang|bcc/ {print $3}'); do
	real=$(readlink -f "$library")
	cp "$real" $fast/ && mount --bind "$fast/${real##*/}" "$real"
done
cd "$checkout" || exit 1
echo "kernel $(uname -r), $(nproc) cores, $(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) MiB," \
	"up for $(cut -d' ' -f1 /proc/uptime) s"
PATH=$checkout/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# An emulated machine compiles our modules for half a minute: once, not for each program that a test starts.
unset PYTHONDONTWRITEBYTECODE
export PATH PYTHONPYCACHEPREFIX=/tmp/.pycache SOCKMESH_REQUIRE_KERNEL=1 SOCKMESH_EMULATED=1 HOME=/tmp LC_ALL=C.UTF-8
sh "$out/command"
status=$?
sync
echo $status >"$out/status"
