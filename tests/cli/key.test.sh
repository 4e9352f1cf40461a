#!/usr/bin/env bash
# shoal key: making, showing, listing, revoking on a worker; adding and forgetting on a host.
. tests/cli/lib.sh

export XDG_CONFIG_HOME=$SHOAL_TMP/worker
worker=$SHOAL_TMP/worker/shoal host=$SHOAL_TMP/host/shoal
on_worker() { export XDG_CONFIG_HOME=$SHOAL_TMP/worker; }
on_host() { export XDG_CONFIG_HOME=$SHOAL_TMP/host; }

# Nothing yet, and looking makes nothing.
expect 0 key list
out_has 'none; shoal key make'
out_has 'none; shoal key add'
[ ! -e "$worker" ] || fail 'a list made files'

# A key, whatever the umask; its words and its text.
umask 000
expect 0 key make laptop
umask 022
[ ! -s "$SHOAL_TMP/err" ] || fail 'something on stderr'
key=$(grep -Eo 'SHOAL1-[A-Z2-7]{52}-[A-Z2-7]{4}$' "$SHOAL_TMP/out") || fail 'no key to paste'
out_has "^  shoal key add HOST:PORT $key\$"
words=$(tail -n 1 "$SHOAL_TMP/out")
equal "$(wc -w <<< "$words")" 8 'words of the fingerprint'
equal "$(stat -c %a "$worker/keys")" 700 'mode of the folder'
equal "$(stat -c %a "$worker/keys/laptop")" 600 'mode of the key'
equal "$(cat "$worker/keys/laptop")" "$key" 'the file'
expect 0 key show laptop
out_has "$key"
expect 0 key show laptop --json
equal "$(json 'd["key"]')" "$key" 'key in JSON'
equal "$(json 'd["fingerprint"]')" "${words#  }" 'words in JSON'
equal "$(json 'len(d["id"])')" 16 'id in JSON'
expect 1 key make laptop
says 'a key "laptop" already; .*shoal key revoke laptop'
expect 0 key make tower-2 --json
equal "$(json 'd["name"]')" tower-2 'name in JSON'

# A list names all and shows no secret.
expect 0 key list
out_has "^  laptop +[0-9-]{10} +[0-9a-f]{16} +${words#  }\$"
out_has '^  tower-2 '
! grep -q SHOAL1 "$SHOAL_TMP/out" || fail 'the list shows a secret'
expect 0 key list --json
equal "$(json '[k["name"] for k in d["keys"]]')" "['laptop', 'tower-2']" 'names in JSON'
equal "$(json '"key" in d["keys"][0]')" False 'a secret in JSON'

# The host: the same words; another key of the address takes its place; stdin hides it.
on_host
expect 0 key add Attic.local:50052 "$key" --name attic
equal "$(tail -n 1 "$SHOAL_TMP/out")" "$words" 'words at the host'
equal "$(stat -c %a "$host/cluster")" 600 'mode of the cluster file'
equal "$(cat "$host/cluster")" "attic.local:50052 $key attic" 'the cluster file'
expect 0 key add '[fe80::1]:7' "$key" --json
equal "$(json 'd["address"], d["name"], d["replaced"]')" "('[fe80::1]:7', None, False)" 'added'
other=$(sed -n 's/.*\(SHOAL1-.*\)/\1/p' "$worker/keys/tower-2")
echo "$other" | "$SHOAL" key add attic.local:50052 - > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" \
    || fail 'a key from stdin'
out_has 'has a new key'
equal "$(head -n 1 "$host/cluster")" "attic.local:50052 $other" 'the replaced line'
expect 0 key list --json
equal "$(json '[w["address"] for w in d["workers"]]')" "['attic.local:50052', '[fe80::1]:7']" workers
expect 0 key forget '[FE80::1]:7'
equal "$(wc -l < "$host/cluster")" 1 'lines that are left'
expect 1 key forget '[fe80::1]:7'
says 'no worker \[fe80::1\]:7 in '

# Wrong copies and wrong words; no message shows a key.
usage() { # ARGUMENT... PATTERN
    expect 2 "${@:1:$#-1}"
    out_is_empty
    says "${*: -1}"
    ! grep -q "${key:7:20}" "$SHOAL_TMP/err" || fail 'a message shows the key'
}
case "$key" in SHOAL1-A*) wrong=SHOAL1-B${key:8} ;; *) wrong=SHOAL1-A${key:8} ;; esac
usage key add a:1 "$wrong" 'copied wrongly'
usage key add a:1 "${key%?}" '63 characters, not 64: copy it whole'
usage key add a:1 "${key:7}" 'begins with SHOAL1-'
usage key add a "$key" 'no port'
usage key add :5 "$key" 'no address of a worker'
usage key add a:1 'needs HOST:PORT KEY'
usage key add a:1 "$key" more '"more" is one word too many'
usage key 'which of make, list'
usage key mkae x 'did you mean make'
usage key frobnicate 'there are: make, list'
usage key --json 'no option --json'
usage key make 'needs NAME'
usage key make ../x 'no name for a key'
usage key list x 'belongs to no option'
for verb in make list show revoke add forget; do
    expect 0 key $verb --help
    out_has "^Usage: shoal key $verb"
done

# Files that others can read: refused with the line that mends it, which does.
on_worker
chmod 644 "$worker/keys/laptop"
expect 1 key list
says "chmod 600 $worker/keys/laptop"
chmod 600 "$worker/keys/laptop"
chmod 755 "$worker/keys"
expect 1 key show laptop
says "chmod 700 $worker/keys"
chmod 700 "$worker/keys"
on_host
chmod 640 "$host/cluster"
expect 1 key list
says "chmod 600 $host/cluster"
chmod 600 "$host/cluster"
echo 'barn:1 nonsense' >> "$host/cluster"
expect 1 key add c:1 "$key"
says "$host/cluster, line 2: this is no key"
equal "$(wc -l < "$host/cluster")" 2 'a damaged file was rewritten'

# Revoked is gone, a damaged one too.
on_worker
expect 0 key revoke laptop
[ ! -e "$worker/keys/laptop" ] || fail 'the key is still there'
expect 1 key show laptop
says 'no key "laptop"'
expect 1 key revoke laptop
says 'no key "laptop"'
echo junk > "$worker/keys/tower-2"
expect 1 key list
says "$worker/keys/tower-2 holds no key: .*shoal key revoke tower-2"
expect 0 key revoke tower-2 --json
equal "$(json 'd["revoked"]')" tower-2 'revoked'
expect 0 key list
equal "$(ls -A "$worker/keys")" '' 'what is left in the folder'

unset XDG_CONFIG_HOME
HOME='' expect 1 key list
says 'neither XDG_CONFIG_HOME nor HOME'
