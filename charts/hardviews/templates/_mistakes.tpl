{{/* What is wrong with one job, as a JSON list: root, o. The words are those of `torchx run`: component.py, mistakes.py. */}}
{{- define "hardviews.mistakesOfJob" -}}
{{- $o := .o }}{{ $v := .root.Values }}{{ $job := $o.job }}{{ $found := list -}}
{{- $lacks := list -}}
{{- if not $v.image }}{{ $lacks = append $lacks "image (container image with hardviews in it)" }}{{ end -}}
{{- if not $o.data }}{{ $lacks = append $lacks "data (URL of a packed dataset)" }}{{ end -}}
{{- if and (eq $job "finetune") (not $o.run) }}{{ $lacks = append $lacks "run (encoder that is trained further), or the chart's output" }}{{ end -}}
{{- if and (eq $job "finetune") (not $o.output) }}{{ $lacks = append $lacks "an output of its own: finetune.output (URL under which the tuned encoder is kept)" }}{{ end -}}
{{- if and (eq $job "pretrain") (not $o.output) }}{{ $lacks = append $lacks "output (URL under which checkpoints are kept)" }}{{ end -}}
{{- if and (not (has $job (list "pack" "pretrain" "finetune"))) (not $o.run) }}{{ $lacks = append $lacks "output (URL under which checkpoints are kept)" }}{{ end -}}
{{- if and (ne $job "pack") (not $o.env.MLFLOW_TRACKING_URI) }}{{ $lacks = append $lacks "tracking (address of the MLflow server)" }}{{ end -}}
{{- if and (eq $job "pack") (not $v.pack.source) }}{{ $lacks = append $lacks "source (folder, list file, or the name of a dataset)" }}{{ end -}}
{{- with $lacks }}{{ $found = append $found (printf "The job %s lacks %s." $job (join "; " .)) }}{{ end -}}
{{- if and (eq $job "finetune") $o.run (eq (trimSuffix "/" $o.run) (trimSuffix "/" ($o.output | default ""))) -}}
{{- $found = append $found (printf "output %s is the run that is fine-tuned, and a run has one recipe. Give finetune.output another URL." $o.output) -}}
{{- end -}}
{{- $least := int64 $o.least }}{{ $most := int64 $o.most }}{{ $processes := int64 $o.processes }}{{ $gpu := int64 $o.gpu -}}
{{- if gt $least $most -}}
{{- $found = append $found (printf "j %s asks for at least %d nodes and at most %d: the first number is the smaller one, as in %d:%dx%d." $o.j $least $most $most $least $processes) -}}
{{- else if and (gt $gpu 0) (ne $gpu $processes) -}}
{{- $found = append $found (printf "j %s runs %d process%s on a node that has %d GPU%s; each process works on one. Make them equal: gpu %d, or j %d:%dx%d." $o.j $processes (ternary "" "es" (eq $processes 1)) $gpu (ternary "" "s" (eq $gpu 1)) $processes $least $most $gpu) -}}
{{- end -}}
{{- if and $o.schedule (or (gt $processes 1) (gt $most 1)) -}}
{{- $found = append $found (printf "j %s: an evaluation with a schedule is one process. Leave j out and give gpu 0 or 1, or leave schedule out." $o.j) -}}
{{- end -}}
{{- if and $o.shm (gt (int64 $o.shm) (int64 $o.memMB)) -}}
{{- $found = append $found (printf "shm %d MB of shared memory are part of the pod's memory, which is %d MB. Give less, or more memMB." (int64 $o.shm) (int64 $o.memMB)) -}}
{{- end -}}
{{- if hasKey $o.devices $o.gpuResource -}}
{{- $found = append $found (printf "The device %s is the GPU resource, of which gpu says how many. Leave it out of the devices." $o.gpuResource) -}}
{{- end -}}
{{- $folders := list -}}
{{- range $o.mounts -}}
{{- if and (eq .type "volume") (not (regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" .src)) -}}
{{- $found = append $found (printf "mounts has src=%s, which is not the name of a volume claim: it may have small letters, digits, '-' and '.' only, and a letter or digit at both ends and beside every '.'." .src) -}}
{{- else if and (eq .type "bind") (not (hasPrefix "/" .src)) -}}
{{- $found = append $found (printf "mounts has src=%s: give the full path of a folder of the node." .src) -}}
{{- end -}}
{{- if has .dst $folders -}}
{{- $dst := .dst }}{{ $count := 0 }}{{ range $o.mounts }}{{ if eq .dst $dst }}{{ $count = add1 $count }}{{ end }}{{ end -}}
{{- $found = append $found (printf "mounts puts %d volumes at %s. Give each a folder of its own." $count $dst) -}}
{{- end -}}
{{- $folders = append $folders .dst -}}
{{- end -}}
{{- $signed := "(?i)[a-z][a-z0-9+.-]*://[^/@ ]*:[^/@ ]+@" -}}
{{- $instead := "holds an address with a password in it, which everyone who may list jobs could read. Give the address without it, and the credentials as a Secret (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD): secrets: [NAME]." -}}
{{- range $name, $value := $o.env -}}
{{- if and $value (not (regexMatch "(?i)_FILE$" $name)) (regexMatch "(?i)SECRET|PASSWORD|PASSWD|TOKEN|ACCESS_KEY|API_KEY|PRIVATE_KEY" $name) -}}
{{- $found = append $found (printf "The variable %s looks like a credential, and what is given by env can be read in the job's description by everyone who may list jobs. Put it into a Secret, kubectl create secret generic NAME --from-literal=%s=..., and give its name: secrets: [NAME]." $name $name) -}}
{{- else if regexMatch $signed $value -}}
{{- $found = append $found (printf "The variable %s %s" $name $instead) -}}
{{- end -}}
{{- if and $value (has $name (list "MLFLOW_TRACKING_URI" "AWS_ENDPOINT_URL" "AWS_ENDPOINT_URL_S3")) -}}
{{- $why := "" -}}
{{- if regexMatch "(?i)^[a-z]+://([^/@]*@)?(localhost|127\\.0\\.0\\.1|0\\.0\\.0\\.0|\\[::1\\])([:/]|$)" $value -}}
{{- $why = "means the pod itself" -}}
{{- else if not (or (regexMatch "(?i)^https?://[^/]" $value) (and (eq $name "MLFLOW_TRACKING_URI") (regexMatch "^(databricks|postgresql|mysql|mssql):" $value))) -}}
{{- $why = "is no server's address, so the record would be lost with the pod" -}}
{{- end -}}
{{- with $why }}{{ $found = append $found (printf "%s is %s, which %s. Give an address that pods reach, such as http://SERVICE.NAMESPACE:PORT." $name $value .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $words := (include "hardviews.words" . | fromJson).words -}}
{{- range $index, $word := $words -}}
{{- if regexMatch $signed $word }}{{ $found = append $found (printf "An argument of the role %s %s" $o.role $instead) }}{{ end -}}
{{- $flag := splitList "=" $word | first -}}
{{- if has $flag (list "--data" "--output" "--run" "--out" "--source") -}}
{{- $value := "" -}}
{{- if contains "=" $word }}{{ $value = trimPrefix (printf "%s=" $flag) $word }}{{ else if lt (add1 $index) (len $words) }}{{ $value = index $words (add1 $index) }}{{ end -}}
{{- $made := and (eq $flag "--source") (has $value (list "digits" "photographs")) -}}
{{- if and $value (not $made) -}}
{{- if and (contains "://" $value) (not (regexMatch "^(file|local)://" $value)) -}}
{{- if regexMatch "^[^:]+:///" $value }}{{ $found = append $found (printf "%s %s names no bucket. Write s3://BUCKET/FOLDER." $flag $value) }}{{ end -}}
{{- else -}}
{{- $path := regexReplaceAll "^(file|local)://" $value "" }}{{ $seen := false -}}
{{- range $folders }}{{ if or (eq $path .) (hasPrefix (printf "%s/" (trimSuffix "/" .)) $path) }}{{ $seen = true }}{{ end }}{{ end -}}
{{- if not $seen -}}
{{- $address := ternary "Mount" "Give an address that all reach, s3://BUCKET/FOLDER, or mount" (eq $flag "--source") -}}
{{- $found = append $found (printf "%s %s is a folder inside the pod, which is gone with it and which no other pod sees. %s a volume there: mounts: [{type: volume, src: CLAIM, dst: %s}]." $flag $value $address (ternary $path "/data" (hasPrefix "/" $path))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $longest := printf "%s-%s-xxxxxxxxxx-%s" (include "hardviews.fullname" .root) $job (ternary "packer-0-0" "coordinator-0-0" (eq $job "pack")) | len -}}
{{- $worker := printf "%s-%s-xxxxxxxxxx-%s-%d" (include "hardviews.fullname" .root) $job $o.role (sub $most 1) | len -}}
{{- $longest = max $longest $worker -}}
{{- if gt $longest 63 -}}
{{- $found = append $found (printf "The names of the release, '%s', and of the job make pod names of %d characters; Kubernetes takes 63. Give the release a name that is %d shorter, or set fullnameOverride." .root.Release.Name $longest (sub $longest 63)) -}}
{{- end -}}
{{- uniq $found | toJson -}}
{{- end }}

{{/* Everything that is wrong, in one message. */}}
{{- define "hardviews.mistakes" -}}
{{- $v := .Values }}{{ $found := list }}{{ $jobs := list -}}
{{- range $job := splitList " " (include "hardviews.jobs" $) -}}
{{- if (index $v $job).enabled -}}
{{- $jobs = append $jobs $job -}}
{{- $o := include "hardviews.options" (dict "root" $ "job" $job) | fromJson -}}
{{- range include "hardviews.mistakesOfJob" (dict "root" $ "o" $o) | fromJsonArray }}{{ $found = append $found (printf "%s: %s" $job .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if and $v.queueSpec.create $jobs -}}
{{- $found = append $found "queueSpec.create makes a queue, and this release has jobs. Helm makes jobs before queues, and Volcano refuses a job whose queue is not there. Make the queue by a release without jobs, then install the jobs by another." -}}
{{- end -}}
{{- if and $v.priorityClassSpec.create (not $v.pod.priorityClass) -}}
{{- $found = append $found "priorityClassSpec.create makes a PriorityClass that has no name. Give pod.priorityClass." -}}
{{- end -}}
{{- if and $v.objectStore.enabled (not $v.objectStore.image) -}}
{{- $found = append $found "objectStore.image is empty. Build it from docker/object-store.Dockerfile, and give its name." -}}
{{- end -}}
{{- if and $v.objectStore.enabled (not $v.pod.env.AWS_ENDPOINT_URL) -}}
{{- range $key, $url := dict "data" $v.data "output" $v.output -}}
{{- $bucket := regexReplaceAll "^s3://([^/]*).*$" $url "${1}" -}}
{{- if and (hasPrefix "s3://" $url) $bucket (not (has $bucket $v.objectStore.buckets)) -}}
{{- $found = append $found (printf "%s is %s, and objectStore.buckets has no %s: the S3 server of this chart would not have the bucket. Add it, or name one of %s." $key $url $bucket (join ", " $v.objectStore.buckets)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.mlflow.enabled (not $v.image) }}{{ $found = append $found "The image is empty. Give image: the MLflow server runs in it." }}{{ end -}}
{{- if and $v.mlflow.enabled $v.tracking -}}
{{- $found = append $found (printf "tracking is %s, and mlflow.enabled makes a server that nothing would use. Leave one of them out." $v.tracking) -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.egress) (not (and $v.objectStore.enabled $v.mlflow.enabled)) $jobs -}}
{{- $found = append $found "networkPolicy.enabled lets no pod reach S3 and MLflow, since networkPolicy.egress is empty. Give their addresses, such as {to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 443}]}." -}}
{{- end -}}
{{- if and $v.metrics.open $v.metrics.from -}}
{{- $found = append $found "metrics.open has Volcano make no NetworkPolicy, and metrics.from makes one that would then keep the jobs' own pods from their coordinator. Leave one of them out." -}}
{{- end -}}
{{- with $found }}{{ printf "\n\n%s\n" (join "\n\n" .) | fail }}{{ end -}}
{{- end }}
