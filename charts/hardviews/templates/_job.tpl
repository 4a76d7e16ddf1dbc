{{/* The spec of a Volcano job, with __NAME__ for its name: root, o. This is kubernetes/manifest.py.
The maxRetry of a task is Volcano's default: if Volcano added it, an upgrade would take it away, which Volcano refuses. */}}
{{- define "hardviews.spec" -}}
{{- $o := .o }}{{ $made := include "hardviews.words" . | fromJson -}}
{{- $gate := ternary (int64 $o.wait) 0 (gt (len $made.gate) 0) -}}
schedulerName: volcano
queue: {{ .root.Values.queue }}
maxRetry: {{ ternary 3 1000 (eq $o.job "pack") }}
minAvailable: {{ if $gate }}1{{ else if eq $o.job "pack" }}1{{ else }}{{ add 1 (int64 $o.least) }}{{ end }}
plugins:
  env: []
  svc:
    - --publish-not-ready-addresses
    {{- if .root.Values.metrics.open }}
    - --disable-network-policy
    {{- end }}
{{- if not (kindIs "invalid" $o.ttl) }}
ttlSecondsAfterFinished: {{ int64 $o.ttl }}
{{- end }}
{{- with $o.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
tasks:
{{- if eq $o.job "pack" }}
  - name: packer-0
    replicas: 1
    minAvailable: 1
    maxRetry: 3
    policies:
      - {exitCode: 2, action: TerminateJob}
      - {event: TaskCompleted, action: CompleteJob}
      - {event: PodFailed, action: RestartJob}
    template:
      {{- $command := concat (list "python" "-m" "hardviews.cli") $made.words }}
      {{- include "hardviews.pod" (dict "root" .root "o" $o "task" "packer-0" "role" "packer" "kind" "single" "command" $command "gate" 0 "memory" (int64 $o.memMB) "milliCpu" (mul 1000 (int64 $o.cpu))) | nindent 6 }}
{{- else }}
  - name: coordinator-0
    replicas: 1
    minAvailable: 1
    maxRetry: 3
    policies:
      - {exitCode: 3, action: TerminateJob}
      - {event: TaskCompleted, action: CompleteJob}
      - {event: PodFailed, action: RestartJob, timeout: 60s}
    template:
      {{- $listen := list "--host" "0.0.0.0" "--port" "29500" }}
      {{- $head := concat (list "python" "-m" "hardviews.elastic.coordinator") $listen }}
      {{- if $gate }}
      {{- $head = concat (list "python" "-m" "hardviews.launch.gate" "--wait" (toString $gate)) $made.gate (list "--") $listen }}
      {{- end }}
      {{- $milli := max 50 (div (add (mul 5 (int64 $o.most)) 1) 2) }}
      {{- include "hardviews.pod" (dict "root" .root "o" $o "task" "coordinator-0" "role" "coordinator" "kind" "head" "command" $head "gate" $gate "memory" 128 "milliCpu" $milli) | nindent 6 }}
  - name: {{ $o.role }}
    replicas: {{ int64 $o.most }}
    minAvailable: {{ int64 $o.least }}
    maxRetry: 3
    {{- if $gate }}
    dependsOn:
      name:
        - coordinator-0
    {{- end }}
    policies:
      - {event: PodFailed, action: RestartPod, timeout: 60s}
    template:
      {{- $nodes := printf "%d:%d" (int64 $o.least) (int64 $o.most) }}
      {{- $agent := list "python" "-m" "hardviews.elastic.agent" "--job" "__NAME__" "--nodes" $nodes }}
      {{- $agent = concat $agent (list "--processes" (int64 $o.processes | toString) "--cpus" (int64 $o.cpu | toString)) }}
      {{- $agent = concat $agent (list "--grace" (int64 $o.grace | toString) "--host-variable" "VC_COORDINATOR_0_HOSTS") }}
      {{- $agent = concat $agent (list "--port" "29500" "--prepare" "hardviews.launch.preload" "--" "hardviews.cli") $made.words }}
      {{- include "hardviews.pod" (dict "root" .root "o" $o "task" $o.role "role" $o.role "kind" "agent" "command" $agent "gate" 0 "memory" (int64 $o.memMB) "milliCpu" (mul 1000 (int64 $o.cpu))) | nindent 6 }}
{{- end }}
{{- end }}

{{/* The name of a job: root, o, spec. Another spec is another job; the same one is left alone by an upgrade. */}}
{{- define "hardviews.jobName" -}}
{{- $digest := printf "%s/%s" .spec .o.round | sha256sum | trunc 10 -}}
{{ include "hardviews.fullname" .root }}-{{ .o.job }}-{{ $digest }}
{{- end }}
