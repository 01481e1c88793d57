#!/bin/sh
# The report on runs: a page without any reference outside itself, the results table, files that are damaged or not there.
. "$(dirname "$0")/common.sh"
cd "$work"
# run FOLDER RECIPE SEED ACCURACY: what a trainer leaves.
run() {
  mkdir -p "$1"
  printf '{"recipe":"[recipe]\\nname = %s\\nsummary = s\\n","seed":%s}\n' "$2" "$3" >"$1/run.json"
  printf '{"step":10,"epoch":0.5,"loss":2.0}\n{"step":20,"epoch":1,"loss":1.0,"test_loss":1.1,"test_acc":%s}\n' "$4" >"$1/metrics.jsonl"
}
run f1 fp32 1 0.90
run f2 fp32 2 0.91
run t1 tetrajet 1 0.89
run t2 tetrajet 2 0.905
printf '{"step":20,"epoch":1,"window":10,"total":{"elements":4,"oscillating":0.25,"rate_q":0.5,"confidence_hist":[1,3]},"weights":[{"name":"<w>","oscillating":0.25}],"trajectories":[{"name":"<w>","index":3,"ratio":20,"w":[0.1,0.2],"q":[0,0.25]}]}\n' >t1/track.jsonl
expect 0 "$tetrac" report f1 f2 t1 t2 -o r.html --table
says '| fp32 | 2 | 90.50 | 0.71 |'
says '| tetrajet | 2 | 89.75 | 1.06 | -0.75'
grep -q '<svg' r.html
if grep -q "r(Y)" "$work/out" r.html; then echo "FAIL: a rate that no run has"; exit 1; fi
if grep -qE '(src|href)=|url\(|https?:|@import' r.html; then echo "FAIL: the page refers outside itself"; exit 1; fi
if grep -q '<w>' r.html; then echo "FAIL: a name is not escaped"; exit 1; fi
for tag in figure svg table div details; do
  [ "$(grep -o "<$tag[ >]" r.html | wc -l)" = "$(grep -o "</$tag>" r.html | wc -l)" ] || { echo "FAIL: unbalanced <$tag>"; exit 1; }
done

# A torn last line, a line of another kind, numbers that are none: what is whole is used, the rest is said.
printf 'nonsense\n{"step":30,"epoch":"x","loss":null}\n{"step":25}\n[1,2]\n{"step":40,"epo' >>t1/metrics.jsonl
printf '{"step":30,"total":5,"weights":{},"trajectories":[7,{"w":[1,2,3]}]}\n\000\377{' >>t1/track.jsonl
echo '{' >t2/run.json
expect 0 "$tetrac" report f1/ t1 t2 -o r.html
says 'metrics.jsonl:3: warning: this is no JSON object; the line is left out'
says 'run.json: warning'
mkdir csv empty
printf 'step,epoch,loss,lr,test_acc\n10,0.5,2,,\n20,1,1,0.1,0.5\n30,1.5,nonsense' >csv/metrics.csv
expect 0 "$tetrac" report csv --table
says '| csv | 1 | 50.00 |'
head -c 3000 "$tetrac" >empty/metrics.jsonl
expect 1 "$tetrac" report f1 empty nowhere -o no.html
says 'empty: error: no metrics in this folder'
says 'nowhere: error: no metrics in this folder'
[ ! -e no.html ] || { echo "FAIL: a failed report left a page"; exit 1; }
expect 1 "$tetrac" report f1 -o no/such/folder/r.html
says 'cannot write'
expect 2 "$tetrac" report
expect 2 "$tetrac" report f1
echo "PASS report"
