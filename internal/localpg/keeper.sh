# Runs the server and sees to it that it does not outlive its owner.
#   keeper.sh SIGNAL TEMPORARY_DIRS SERVER ARGS...
# Standard input is a pipe that only the owner can write to, so reading ends when
# the owner closes it or dies, however that happens. Descriptor 3 is the lock of
# the data directory; the server inherits it and so holds it until its last
# process is gone. TEMPORARY_DIRS, one a line, are removed at the end.
signal=$1 temporary=$2
shift 2
exec 4<&0
"$@" 4<&- </dev/null &
server=$!
(
  exec 3<&-
  read -r _ <&4
  kill -s "$signal" "$server"
) &
watch=$!
exec 4<&- </dev/null
wait "$server"
code=$?
kill "$watch" 2>/dev/null
printf '%s' "$temporary" | while IFS= read -r dir; do
  rm -rf -- "$dir"
done
exit "$code"
