{{/* All settings of a job, as JSON: `pod` and the job's own, and what the chart's servers add. Lists and maps are added, the
job's single values win; this is PodOptions.over. */}}
{{- define "hardviews.options" -}}
{{- $v := .root.Values }}{{ $pod := $v.pod }}{{ $job := index $v .job -}}
{{- $o := dict "job" .job -}}
{{- range $key := list "env" "nodeSelector" "labels" "annotations" "devices" -}}
{{- $_ := set $o $key (merge (dict) (index $job $key | default dict) (index $pod $key | default dict)) -}}
{{- end -}}
{{- range $key := list "mounts" "tolerations" "topologySpread" "capabilities" -}}
{{- $_ := set $o $key (concat (index $pod $key | default list) (index $job $key | default list)) -}}
{{- end -}}
{{- range $key := list "shm" "scratch" "imagePullPolicy" "serviceAccount" "priorityClass" "runAsUser" "ttl" "runtimeClassName" "gpuResource" "hostNetwork" -}}
{{- $value := index $job $key -}}
{{- $_ := set $o $key (ternary (index $pod $key) $value (or (kindIs "invalid" $value) (eq (toString $value) ""))) -}}
{{- end -}}
{{- if and $v.serviceAccount.create (not $o.serviceAccount) }}{{ $_ := set $o "serviceAccount" (include "hardviews.fullname" .root) }}{{ end -}}
{{- range $key := list "tolerations" "topologySpread" "capabilities" }}{{ $_ := set $o $key (uniq (index $o $key)) }}{{ end -}}
{{- $_ := set $o "affinity" ($job.affinity | default $pod.affinity) -}}
{{- $_ := set $o "gpuResource" ($o.gpuResource | default "nvidia.com/gpu") -}}
{{- $secrets := $v.secrets -}}
{{- if $v.objectStore.enabled -}}
{{- $secrets = append $secrets (include "hardviews.storeSecret" .root) -}}
{{- $_ := set $o "env" (merge $o.env (dict "AWS_ENDPOINT_URL" (printf "http://%s-store:8333" (include "hardviews.fullname" .root)) "AWS_REGION" "us-east-1")) -}}
{{- end -}}
{{- $_ := set $o "secrets" (concat $secrets ($job.secrets | default list) | uniq) -}}
{{- if ne .job "pack" }}{{ $_ := set $o "env" (merge $o.env (dict "MLFLOW_TRACKING_URI" (include "hardviews.tracking" .root))) }}{{ end -}}
{{- if not $o.env.PYTHONSAFEPATH }}{{ $_ := set $o "env" (omit $o.env "PYTHONSAFEPATH") }}{{ end -}}
{{- range $key := list "cpu" "memMB" "round" }}{{ $_ := set $o $key (index $job $key) }}{{ end -}}
{{- $_ := set $o "gpu" ($job.gpu | default 0) -}}
{{- $_ := set $o "wait" ($job.wait | default 0) -}}
{{- $_ := set $o "grace" (ternary $job.grace 30 (has .job (list "pretrain" "finetune"))) -}}
{{- $_ := set $o "data" ($job.data | default $v.data) -}}
{{- $_ := set $o "output" (ternary $job.output $v.output (eq .job "finetune")) -}}
{{- $run := $v.output }}{{ if and (eq .job "classify") $v.finetune.output }}{{ $run = $v.finetune.output }}{{ end -}}
{{- $_ := set $o "run" ($job.run | default $run) -}}
{{- $_ := set $o "role" (get (dict "pack" "packer" "pretrain" "trainer" "finetune" "trainer") .job | default "evaluation") -}}
{{- $j := $job.j | default (toString (max 1 (int64 $o.gpu))) -}}
{{- $most := 1 }}{{ $least := 1 }}{{ $processes := 1 -}}
{{- if regexMatch "^[0-9]+:[0-9]+$" $j -}}
{{- $most = index (splitList ":" $j) 1 | int64 }}{{ $least = index (splitList ":" $j) 0 | int64 -}}
{{- else -}}
{{- $parts := splitList "x" $j -}}
{{- $processes = last $parts | int64 -}}
{{- if eq (len $parts) 2 -}}
{{- $range := splitList ":" (first $parts) -}}
{{- $least = first $range | int64 }}{{ $most = last $range | int64 -}}
{{- end -}}
{{- end -}}
{{- $_ := set $o "j" $j }}{{ $_ := set $o "least" $least }}{{ $_ := set $o "most" $most }}{{ $_ := set $o "processes" $processes -}}
{{- $_ := set $o "schedule" ($job.schedule | default "") -}}
{{- $o | toJson -}}
{{- end }}

{{/* The words of a job's command, and what its coordinator waits for, as JSON: {words, gate}. This is component.py. */}}
{{- define "hardviews.words" -}}
{{- $o := .o }}{{ $job := index .root.Values $o.job }}{{ $words := list }}{{ $gate := list -}}
{{- $remote := hasPrefix "s3://" $o.data -}}
{{- if eq $o.job "pack" -}}
{{- $words = list "pack" "--source" $job.source "--out" $o.data -}}
{{- else if has $o.job (list "pretrain" "finetune") -}}
{{- $words = list "pretrain" $job.recipe -}}
{{- if eq $o.job "finetune" }}{{ $words = list "finetune" $o.run "--recipe" $job.recipe }}{{ end -}}
{{- $words = concat $words (list "--data" $o.data "--output" $o.output) -}}
{{- if $o.wait -}}
{{- $words = concat $words (list "--wait" (toString (int64 $o.wait))) -}}
{{- if and (eq $o.job "finetune") (hasPrefix "s3://" $o.run) }}{{ $gate = list "--run" $o.run }}{{ end -}}
{{- if $remote }}{{ $gate = concat $gate (list "--data" $o.data) }}{{ end -}}
{{- end -}}
{{- else -}}
{{- $said := dict -}}
{{- range $word := $job.args }}{{ if hasPrefix "--" $word }}{{ $_ := set $said (splitList "=" $word | first) true }}{{ end }}{{ end -}}
{{- $words = list $o.job -}}
{{- if not (hasKey $said "--encoder") -}}
{{- $words = concat $words (list "--run" $o.run) -}}
{{- if hasPrefix "s3://" $o.run }}{{ $gate = list "--run" $o.run }}{{ end -}}
{{- end -}}
{{- $words = concat $words (list "--data" $o.data "--wait" (toString (int64 $o.wait))) -}}
{{- if and $gate (hasKey $said "--checkpoint") }}{{ $gate = append $gate "--checkpoint" }}{{ end -}}
{{- $own := or (hasKey $said "--data") (hasKey $said "--train") (hasKey $said "--test") (hasKey $said "--sets") -}}
{{- if and $remote (not $own) }}{{ $gate = concat $gate (list "--data" $o.data "--parts" (ternary "test" "train,test" (eq $o.job "classify"))) }}{{ end -}}
{{- if not $o.wait }}{{ $gate = list }}{{ end -}}
{{- end -}}
{{- dict "words" (concat $words $job.args) "gate" $gate | toJson -}}
{{- end }}
