#!/usr/bin/env bash
# An aarch64 Python with ONNX Runtime under qemu-user, without root, binfmt, chroot or changes to the host's dpkg.
#
#   benchmarks/aarch64.sh DIR        # then DIR/python runs aarch64 Python: about 200 MB, some minutes
#
# Needs Debian or Ubuntu (apt-get download, dpkg-deb) and pip. Emulated time says nothing about a device's.
set -euo pipefail
dir=$(mkdir -p "$1" && cd "$1" && pwd)
ort=${ONNXRUNTIME:-1.31.1} numpy=${NUMPY:-2.4.6} pip=${PIP:-python3 -m pip}
cd "$dir"

mkdir -p deb && (cd deb && apt-get download qemu-user-static && dpkg-deb -x qemu-user-static_*.deb ../qemu)

# A private apt root for arm64, with the host's sources.
apt=$dir/apt
mkdir -p "$apt"/etc/apt/{apt.conf.d,preferences.d} "$apt"/var/lib/dpkg "$apt"/var/lib/apt/lists/partial \
  "$apt"/var/cache/apt/archives/partial
touch "$apt/var/lib/dpkg/status"
cp -r /etc/apt/sources.list* /etc/apt/trusted.gpg.d /etc/apt/apt.conf.d "$apt/etc/apt/" 2>/dev/null || true
options=(-o "Dir=$apt" -o "Dir::State::status=$apt/var/lib/dpkg/status" -o APT::Architecture=arm64
  -o APT::Architectures::=arm64 -o APT::Sandbox::User=root -o "Dir::Etc::parts=$apt/etc/apt/apt.conf.d")
apt-get "${options[@]}" update -qq
apt-get "${options[@]}" install -y -qq --download-only --no-install-recommends \
  python3.11-minimal libpython3.11-stdlib libstdc++6
mkdir -p root
for deb in "$apt"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" root; done

$pip download -q --only-binary=:all: --no-deps --python-version 3.11 --implementation cp --abi cp311 \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
  --platform manylinux2014_aarch64 -d wheels "onnxruntime==$ort" "numpy==$numpy"
$pip download -q --no-deps -d wheels flatbuffers packaging
mkdir -p site
for wheel in wheels/*.whl; do python3 -m zipfile -e "$wheel" site; done

# ONNX Runtime reads /proc/cpuinfo; with the host's x86 one it crashes under qemu 7.2.
mkdir -p root/proc
for ((i = 0; i < $(nproc); i++)); do
  printf 'processor\t: %d\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n' "$i"
  printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done > root/proc/cpuinfo

cat > python <<EOF
#!/bin/sh
PYTHONPATH="$dir/site" exec "$dir/qemu/usr/bin/qemu-aarch64-static" -cpu \${QEMU_CPU:-cortex-a72} -L "$dir/root" \\
  "$dir/root/usr/bin/python3.11" -B "\$@"
EOF
chmod +x python
rm -rf deb apt wheels
./python -c 'import platform, onnxruntime; print(platform.machine(), "onnxruntime", onnxruntime.__version__)'
