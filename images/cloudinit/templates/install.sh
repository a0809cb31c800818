#!/bin/sh
# Written by user-data that firstboot render cloud-init made: gets firstboot,
# verifies it, installs it, starts it. Cut off anywhere, it goes on at the next
# boot; done, it takes itself out of the boot.
set -eu
umask 022
url={{quote .URL}}
want={{.SHA256}}
dir=/usr/local/lib/firstboot
# Beside its final place: the last step is a rename, and SELinux labels fit.
file=/usr/bin/.firstboot.new

say() { echo "firstboot-install: $*"; }

# The url goes in by standard input: arguments are seen by every user.
download() {
  rm -f "$file"
  if command -v curl >/dev/null; then
    printf 'url = "%s"\n' "$url" | curl --config - --fail --silent --show-error --location \
      --connect-timeout 20 --speed-limit 1 --speed-time 60 --output "$file"
  elif command -v wget >/dev/null; then
    printf '%s\n' "$url" | wget --input-file=- --quiet --tries=1 --timeout=60 --output-document="$file" || {
      say "wget ended with $?"
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
  say "what came has the sha256 $got, wanted $want: it is thrown away"
  rm -f "$file"
  return 1
}
{{if eq .Package "rpm"}}
put_in_place() { rpm -U --replacepkgs "$file" && rm -f "$file"; }
{{- else if eq .Package "deb"}}
put_in_place() { DEBIAN_FRONTEND=noninteractive dpkg --force-confold --install "$file" && rm -f "$file"; }
{{- else}}
put() {
  cat >"$1.new" && chmod 0644 "$1.new" && sync && mv -f "$1.new" "$1"
}

put_in_place() {
  mkdir -p /usr/lib/systemd/system &&
{{- range .Units}}
    put {{.Path}} <<'END-OF-UNIT' &&
{{text .Data}}END-OF-UNIT
{{- end}}
    chmod 0755 "$file" && sync && mv -f "$file" /usr/bin/firstboot
}
{{- end}}

pause=5
mkdir -p "$dir"
until download && verify && put_in_place; do
  say "not installed yet; next try in ${pause}s"
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
say "installed; firstboot status tells how it goes on"
# Not waited for: the run comes after cloud-config.service.
systemctl start --no-block firstboot.service firstboot-complete.target
