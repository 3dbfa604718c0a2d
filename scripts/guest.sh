#!/usr/bin/env bash
# Boots a small virtual machine whose memory has tiers, runs one command in it, and exits with its status.
#   guest.sh [--copy PATH]... [--out FOLDER] [--limit SECONDS] [--topology tiers|flat] -- COMMAND [ARGUMENT]...
#
#   --copy PATH     put a file or a folder (what is in it) under /tierd in the guest; programs bring their libraries.
#                   What the build made (tierd, tierctl, the preloaded library, the readers) is there always.
#   --out FOLDER    what COMMAND leaves in the guest's /out comes to FOLDER
#   --limit SECONDS how long COMMAND and the boot may take (120)
#   --topology      tiers: nodes of DRAM, HBM and CXL with firmware figures, one empty node to plug memory into, an NVMe
#                   disk with a file system on /disk; flat: one node and the disk
#
# The processor is emulated: figures of speed mean nothing in there. Kernel and first files are kept in build/guest.
# Exit status: COMMAND's; 77: this machine can't do it (one line says why); 124: out of time; 125: the guest died.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
build=${TIERD_BUILD_DIR:-$here/build}
cache=$build/guest

skip() { echo "skipped: $1"; exit 77; }
usage() { sed -n '2,3p' "$0" >&2; exit 2; }

copies=() out='' limit=120 topology=tiers
while [[ $# -gt 0 && $1 != -- ]]; do
  [[ $# -ge 2 ]] || usage
  case $1 in
    --copy) copies+=("$2") ;;
    --out) out=$2 ;;
    --limit) limit=$2 ;;
    --topology) topology=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ ${1:-} == -- && $# -ge 2 && $topology =~ ^(tiers|flat)$ ]] || usage
shift

for tool in qemu-system-x86_64 busybox cpio zstd dpkg-deb mkfs.ext4; do
  command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || skip "no $tool; run scripts/install-deps.sh"
done
[[ $(uname -m) == x86_64 ]] || skip "the guest is x86-64, this machine is $(uname -m)"

# The kernel as an ELF file: unpacked here, which an emulated processor needs seconds for. Where the packed one lies
# in the image is told by the boot protocol's header (payload_offset and payload_length).
fetch_kernel() {
  local package image sectors offset length
  package=$(apt-cache depends linux-image-6.12-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p;T;q')
  [[ -n $package ]] || skip "apt knows no linux-image-6.12-cloud-amd64 (Debian 12 security); run apt-get update"
  (cd "$cache" && apt-get -q download "$package" >/dev/null 2>&1) || skip "$package can't be downloaded"
  rm -rf "$cache/kernel" && dpkg-deb -x "$(ls -t "$cache/$package"_*.deb | head -1)" "$cache/kernel"
  image=$(ls "$cache"/kernel/boot/vmlinuz-*)
  field() { od -An -t"u$2" -j"$1" -N"$2" "$image" | tr -d ' '; }
  sectors=$(field 497 1) offset=$(field 584 4) length=$(field 588 4)
  dd if="$image" bs=1M iflag=skip_bytes,count_bytes status=none skip=$(((sectors + 1) * 512 + offset)) \
    count=$((length - 4)) | zstd -dcq > "$cache/vmlinux.new"
  rm -rf "$cache/kernel" "$cache"/*.deb
  mv "$cache/vmlinux.new" "$cache/vmlinux"
}

# The files that every guest begins with.
pack_base() {
  local root=$cache/base applet
  rm -rf "$root" && mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,tierd,out,etc,root,run,disk,usr/bin}
  cp "$(command -v busybox)" "$root/bin/busybox"
  for applet in $("$root/bin/busybox" --list | grep -vx busybox); do ln -s busybox "$root/bin/$applet"; done
  echo 'root:x:0:0::/root:/bin/sh' > "$root/etc/passwd"
  echo 'root:x:0:' > "$root/etc/group"
  cp "$here/tests/guest/init" "$root/init"
  pack "$root" "$cache/base.cpio"
}
pack() { (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet -R 0:0) > "$2"; }

mkdir -p "$cache"
exec 9>>"$cache/lock"
flock 9
[[ -s $cache/vmlinux ]] || fetch_kernel
[[ $cache/base.cpio -nt $here/tests/guest/init ]] || pack_base
flock -u 9

work=$(mktemp -d "${TMPDIR:-/tmp}/tierd-guest.XXXXXX")
trap 'rm -rf "$work"' EXIT

# --- the files of this run: what was built, what was asked for, and the libraries that they need
root=$work/root
mkdir -p "$root/tierd"
for made in "$build"/bin/{tierd,tierctl,tierd-run} "$build/lib/libtierd_shim.so" "$build"/tests/tierd_reader; do
  if [[ -e $made ]]; then cp "$made" "$root/tierd/"; fi
done
for path in "${copies[@]}"; do
  if [[ -d $path ]]; then cp -rL "$path/." "$root/tierd/"; else cp -L "$path" "$root/tierd/"; fi
done
while IFS= read -r -d '' file; do
  [[ $(od -An -tx1 -N4 "$file") == " 7f 45 4c 46" ]] || continue
  strip --strip-debug "$file" 2>/dev/null || true  # the guest's memory is small
  # Sanitizer runtimes and unpacked Python are not for a guest: what ldd can't say is left out.
  for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
    [[ -e $root$library ]] || { mkdir -p "$root$(dirname "$library")"; cp -L "$library" "$root$library"; }
  done
done < <(find "$root/tierd" -type f -print0)
printf '%q ' "$@" > "$root/command"
pack "$root" "$work/more.cpio"
cat "$cache/base.cpio" "$work/more.cpio" > "$work/initrd"

truncate -s 1G "$work/disk"
PATH=$PATH:/usr/sbin mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -O ^has_journal "$work/disk"

# --- the machine
cpus=2
machine=(-accel "tcg,thread=multi,tb-size=256" -cpu "Haswell-v4,-pcid,-x2apic,-tsc-deadline,-invpcid,-spec-ctrl" -smp $cpus
  -nodefaults -no-user-config -nographic -no-reboot -bios /usr/share/qemu/qboot.rom
  -kernel "$cache/vmlinux" -initrd "$work/initrd")
memory() { machine+=(-object "memory-backend-ram,id=$1,size=$2"); }
figures() { # of a node: latency in ns and bandwidth in MiB/s, as its processors see it
  machine+=(-numa "hmat-lb,initiator=0,target=$1,hierarchy=memory,data-type=access-latency,latency=$2"
    -numa "hmat-lb,initiator=0,target=$1,hierarchy=memory,data-type=access-bandwidth,bandwidth=$3M")
}
case $topology in
  flat) machine+=(-machine q35 -m 1G) ;;
  tiers)
    # Nodes 1 and 2 have a little memory of their own, since only the last node may begin empty; the rest are modules
    # that can be set offline and pulled.
    memory boot0 768M; memory boot1 128M; memory boot2 128M; memory hbm 256M; memory cxl 512M
    machine+=(-machine "q35,hmat=on" -m "1024M,slots=8,maxmem=8G"
      -numa "node,nodeid=0,cpus=0-$((cpus - 1)),memdev=boot0,initiator=0" -numa node,nodeid=1,memdev=boot1,initiator=0
      -numa node,nodeid=2,memdev=boot2,initiator=0 -numa node,nodeid=3,initiator=0)
    for distance in 0,1,15 0,2,30 0,3,40 1,2,35 1,3,45 2,3,45; do
      IFS=, read -r from to value <<< "$distance"
      machine+=(-numa "dist,src=$from,dst=$to,val=$value")
    done
    machine+=(-device pc-dimm,id=hbm0,memdev=hbm,node=1 -device pc-dimm,id=cxl0,memdev=cxl,node=2)
    figures 0 100 80000; figures 1 60 400000; figures 2 250 30000; figures 3 400 15000
    ;;
esac
# Ports: the console, the command's files (a tar), its status, and the machine's monitor, through which the guest plugs
# and pulls memory by itself.
machine+=(-drive "file=$work/disk,if=none,id=disk,format=raw,cache=unsafe" -device nvme,serial=disk,drive=disk
  -device virtio-serial-pci
  -chardev stdio,id=console,signal=off -device virtconsole,chardev=console
  -chardev "file,id=out,path=$work/out.tar" -device virtserialport,chardev=out,name=out
  -chardev "file,id=status,path=$work/status" -device virtserialport,chardev=status,name=status
  -chardev "socket,id=monitor,path=$work/monitor,server=on,wait=off" -mon chardev=monitor,mode=readline
  -chardev "socket,id=plug,path=$work/monitor" -device virtserialport,chardev=plug,name=monitor
  -serial "file:$work/boot.log")
# Self-tests and waits of the kernel's that cost an emulated processor seconds.
idle=init_encrypted,jent_mod_init,crypto_kdf108_init,load_system_certificate_list,init_ima,cmos_init
machine+=(-append "console=ttyS0 console=hvc0 quiet reboot=t panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable \
audit=0 nowatchdog rcupdate.rcu_expedited=1 cryptomgr.notests ipv6.disable=1 apparmor=0 memhp_default_state=online_movable \
initcall_blacklist=$idle guest_limit=$limit")

boot() {
  rm -f "$work"/{status,monitor,out.tar,boot.log}
  ended=0
  timeout --foreground -k 3 "$limit" qemu-system-x86_64 "${machine[@]}" </dev/null | tee "$work/console.log" || ended=${PIPESTATUS[0]}
}
# The kernel patches its own code while the other processor runs it, which the emulation does not always get right: it then
# stops over the breakpoint that it put there. That says nothing of the command, so the guest is booted again.
for attempt in 1 2 3; do
  boot
  if [[ -n $out && -s $work/out.tar ]]; then mkdir -p "$out" && tar xf "$work/out.tar" -C "$out"; fi
  status=$(head -c 8 "$work/status" 2>/dev/null | tr -d '\n\0' || true)
  if [[ $status =~ ^[0-9]+$ ]]; then exit "$status"; fi
  grep -q 'Oops: int3' "$work/boot.log" || break
  echo "the guest's kernel stopped over its own breakpoint, attempt $attempt of 3" >&2
done
{
  echo "the guest ended without a status (qemu: $ended); the end of its console:"
  tail -n 40 "$work/console.log"
  echo "and of its kernel's log:"
  tail -n 150 "$work/boot.log"
} >&2
[[ $ended -eq 124 ]] && exit 124
exit 125
