#!/bin/sh
# Written by user-data from firstboot render cloud-init. Downloads firstboot, verifies
# it, installs it and starts it. If interrupted, it runs again at the next boot. At
# the end it disables itself.
set -eu
umask 022
url=@URL@
want=@SHA256@
dir=/usr/local/lib/firstboot
# In the target directory: the last step is a rename, and the SELinux label is right.
file=/usr/bin/.firstboot.new

log() { echo "firstboot-install: $*"; }

# The URL is passed on standard input, because every user can read arguments.
download() {
  rm -f "$file"
  if command -v curl >/dev/null; then
    printf 'url = "%s"\n' "$url" | curl --config - --fail --silent --show-error --location \
      --connect-timeout 20 --speed-limit 1 --speed-time 60 --output "$file"
  elif command -v wget >/dev/null; then
    printf '%s\n' "$url" | wget --input-file=- --quiet --tries=1 --timeout=60 --output-document="$file" || {
      log "wget failed with exit code $?"
      return 1
    }
  else
    python=$(command -v python3 || echo /usr/libexec/platform-python)
    printf '%s' "$url" | "$python" -c '
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.stdin.read(), timeout=60) as r, open(sys.argv[1], "wb") as f:
    shutil.copyfileobj(r, f)
' "$file" 2>&1 | tail -n 1
    [ -s "$file" ]
  fi
}

verify() {
  got=$(sha256sum "$file" | cut -d ' ' -f 1)
  [ "$got" = "$want" ] && return 0
  log "the download has sha256 $got, want $want: discarded"
  rm -f "$file"
  return 1
}
@INSTALL-FILE@

pause=5
mkdir -p "$dir"
until download && verify && install_file; do
  log "not installed; next attempt in ${pause}s"
  sleep "$pause"
  pause=$((pause * 2))
  [ "$pause" -le 300 ] || pause=300
done
systemctl daemon-reload
systemctl enable firstboot.service firstboot-complete.target
systemctl disable firstboot-install.service
echo "$want" >"$dir/installed.new"
sync
mv -f "$dir/installed.new" "$dir/installed"
log "installed; 'firstboot status' shows the progress"
# Without waiting: the run is ordered after cloud-config.service.
systemctl start --no-block firstboot.service firstboot-complete.target
