# shellcheck shell=sh
# Ends a process group when the other end of standard input closes. The first line names the group; $1 is the mark in
# the environment of its processes.
read -r group
while read -r _; do :; done
if [ -n "$group" ]; then kill -s KILL -- "-$group" 2>/dev/null; fi
rounds=0
while [ "$rounds" -lt 50 ]; do
  # Its status is not of use: environments of other users cannot be read.
  marked=$(grep -alF -- "$1" /proc/[0-9]*/environ 2>/dev/null)
  if [ -z "$marked" ]; then exit 0; fi
  for environment in $marked; do
    process=${environment#/proc/}
    kill -s KILL -- "${process%/environ}" 2>/dev/null
  done
  sleep 0.05
  rounds=$((rounds + 1))
done
