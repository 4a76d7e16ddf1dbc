{{/* The pod of one role: root, o (options), task (name of task and container), role, kind (head, agent or single), command,
gate (seconds, or 0), and memory and cpu. This is kubernetes/manifest.py. */}}
{{- define "hardviews.pod" -}}
{{- $o := .o }}{{ $head := eq .kind "head" }}{{ $agent := eq .kind "agent" -}}
{{- $own := include "hardviews.selector" (dict "root" .root "part" $o.job) | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "hardviews" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "torchx.pytorch.org/role-name" .role -}}
{{- if not $agent }}{{ $_ := set $own "torchx.pytorch.org/replica-id" "0" }}{{ end -}}
{{- $_ := set $own "volcano.sh/preemptable" (ternary "false" "true" $head) -}}
{{- $env := dict "PYTHONSAFEPATH" "1" -}}
{{- if ne .kind "single" }}{{ $_ := set $env "LOGLEVEL" "WARNING" }}{{ $_ := set $env "TORCH_CPP_LOG_LEVEL" "ERROR" }}{{ end -}}
{{- if not $head }}{{ $env = merge (dict) $o.env $env }}{{ end -}}
{{- if and $head .gate }}{{ range $key, $value := $o.env }}{{ if hasPrefix "AWS_" $key }}{{ $_ := set $env $key $value }}{{ end }}{{ end }}{{ end -}}
{{- $mounts := ternary list $o.mounts $head -}}
{{- $folders := list }}{{ range $mounts }}{{ $folders = append $folders .dst }}{{ end -}}
{{- $cached := and $o.scratch (not (has "/scratch" $folders)) (not (hasKey $env "HARDVIEWS_CACHE")) -}}
{{- $env = merge $env (dict "HOME" "/scratch" "HARDVIEWS_CACHE" "/scratch/cache") -}}
{{- if not $head -}}
{{- $env = merge $env (dict "HARDVIEWS_IMAGE" .root.Values.image) -}}
{{- if $cached }}{{ $env = merge $env (dict "HARDVIEWS_CACHE_BYTES" (div (mul (int64 $o.scratch) 95000000) 100 | toString)) }}{{ end -}}
{{- end -}}
{{- $devices := ternary dict $o.devices $head -}}
{{- if and $o.gpu (not $head) }}{{ $devices = merge (dict $o.gpuResource $o.gpu) $devices }}{{ end -}}
{{- $shared := ternary (div (int64 .memory) 2) 64 (gt (int64 .memory) 1) -}}
{{- if and $o.shm (not $head) }}{{ $shared = int64 $o.shm }}{{ end -}}
{{- $notes := .annotations | default dict -}}
{{- if $head }}{{ $_ := set $notes "volcano.sh/task-priority" "2147483647" }}{{ end -}}
{{- if and $o.gpu (not $head) (ne $o.gpuResource "nvidia.com/gpu") }}{{ $_ := set $notes "hardviews/gpu-resource" $o.gpuResource }}{{ end -}}
metadata:
  annotations:
    {{- merge $notes $o.annotations (dict "sidecar.istio.io/inject" "false") | toYaml | nindent 4 }}
  labels:
    {{- merge $own $o.labels .root.Values.commonLabels | toYaml | nindent 4 }}
spec:
  {{- include "hardviews.podSecurity" (int64 ($o.runAsUser | default 10001)) | nindent 2 }}
  {{- if $o.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with $o.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- if not $head }}
  {{- with $o.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $o.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          torchx.pytorch.org/role-name: {{ $.role }}
          volcano.sh/job-name: __NAME__
    {{- end }}
  {{- end }}
  {{- end }}
  {{- if ne .kind "single" }}
  subdomain: {{ include "hardviews.fullname" .root }}-jobs
  {{- end }}
  restartPolicy: {{ ternary "OnFailure" "Never" $agent }}
  {{- if and (not $head) (ne $o.job "pack") }}
  terminationGracePeriodSeconds: {{ add (int64 $o.grace) 30 }}
  {{- end }}
  nodeSelector:
    {{- toYaml $o.nodeSelector | nindent 4 }}
  {{- with $o.tolerations }}
  tolerations:
    {{- range . }}
    {{- $taint := regexFind "^[^:]+" . }}
    - key: {{ regexFind "^[^=]+" $taint }}
      {{- if contains "=" $taint }}
      operator: Equal
      value: {{ regexReplaceAll "^[^=]+=" $taint "" | quote }}
      {{- else }}
      operator: Exists
      {{- end }}
      {{- if contains ":" . }}
      effect: {{ regexReplaceAll "^[^:]+:" . "" }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $o.serviceAccount }}
  serviceAccountName: {{ . }}
  {{- end }}
  containers:
    - name: {{ .task }}
      image: {{ .root.Values.image | quote }}
      {{- with $o.imagePullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      command:
        {{- range .command }}
        - {{ toJson . }}
        {{- end }}
      workingDir: /scratch
      env:
        {{- range $key, $value := $env }}
        - name: {{ $key }}
          value: {{ toJson $value }}
        {{- end }}
        {{- if not (or $head (hasKey $env "HARDVIEWS_NAMESPACE")) }}
        - name: HARDVIEWS_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        {{- end }}
        {{- if and $agent $o.hostNetwork }}
        - name: HARDVIEWS_NODE
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
      {{- if and $o.secrets (or (not $head) .gate) }}
      envFrom:
        {{- range $o.secrets }}
        - secretRef:
            name: {{ . }}
        {{- end }}
      {{- end }}
      {{- if $head }}
      ports:
        - name: rendezvous
          containerPort: 29500
      livenessProbe:
        httpGet: {path: /status, port: 29500}
        initialDelaySeconds: 60
        periodSeconds: 15
        timeoutSeconds: 10
        failureThreshold: 12
      {{- if .gate }}
      startupProbe:
        httpGet: {path: /status, port: 29500}
        periodSeconds: 5
        timeoutSeconds: 10
        failureThreshold: {{ div (add (int64 .gate) 64) 5 }}
      {{- end }}
      {{- end }}
      resources:
        requests:
          cpu: {{ .milliCpu }}m
          memory: {{ .memory }}M
          {{- range $name, $count := $devices }}
          {{ $name }}: {{ int64 $count | quote }}
          {{- end }}
        limits:
          cpu: {{ max 1000 .milliCpu }}m
          memory: {{ ternary (max 512 .memory) .memory $head }}M
          {{- range $name, $count := $devices }}
          {{ $name }}: {{ int64 $count | quote }}
          {{- end }}
      {{- include "hardviews.containerSecurity" (dict "add" (ternary list $o.capabilities $head)) | nindent 6 }}
      volumeMounts:
        - name: dshm
          mountPath: /dev/shm
        {{- range $index, $mount := $mounts }}
        - name: mount-{{ $index }}
          mountPath: {{ $mount.dst }}
          readOnly: {{ $mount.readonly | default false }}
        {{- end }}
        {{- range $name, $folder := dict "scratch" "/scratch" "tmp" "/tmp" }}
        {{- if not (has $folder $folders) }}
        - name: {{ $name }}
          mountPath: {{ $folder }}
        {{- end }}
        {{- end }}
  volumes:
    - name: dshm
      emptyDir:
        medium: Memory
        sizeLimit: {{ $shared }}M
    {{- range $index, $mount := $mounts }}
    - name: mount-{{ $index }}
      {{- if eq $mount.type "volume" }}
      persistentVolumeClaim:
        claimName: {{ $mount.src }}
      {{- else }}
      hostPath:
        path: {{ $mount.src }}
      {{- end }}
    {{- end }}
    {{- if not (has "/scratch" $folders) }}
    - name: scratch
      {{- if $o.scratch }}
      emptyDir:
        sizeLimit: {{ int64 $o.scratch }}M
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    {{- if not (has "/tmp" $folders) }}
    - name: tmp
      emptyDir: {}
    {{- end }}
{{- end }}
