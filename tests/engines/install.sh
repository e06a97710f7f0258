#!/bin/sh
# Installs the Debian packages that one kind of engine test needs, and says so. usage: install.sh ENGINE
set -eu
case "${1:-}" in
  systemd)  packages="systemd systemd-container dbus"; probe="systemd-nspawn systemctl dbus-daemon" ;;
  image)    packages="buildah debootstrap"; probe="buildah debootstrap" ;;
  slurm)    packages="slurm-wlm munge"; probe="slurmctld slurmd munged sbatch" ;;
  postgres) packages="postgresql"; probe="" ;;
  *) echo "usage: $0 systemd|image|slurm|postgres" >&2; exit 2 ;;
esac
missing=""
for program in $probe; do command -v "$program" > /dev/null 2>&1 || missing="$missing $program"; done
if [ "$1" = postgres ] && ! ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1; then missing=" initdb"; fi
if [ -z "$missing" ]; then exit 0; fi
echo "missing:$missing; installing the Debian packages: $packages"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# The tests start what they need themselves, in folders of their own; nothing is to be started by installing it.
RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $packages > /dev/null
