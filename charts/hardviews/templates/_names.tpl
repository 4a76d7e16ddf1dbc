{{/* The name of all objects of a release begins so; as in every chart, but shorter: pods add up to 37 characters. */}}
{{- define "hardviews.fullname" -}}
{{- $chart := .Values.nameOverride | default .Chart.Name -}}
{{- $made := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- .Values.fullnameOverride | default $made -}}
{{- end }}

{{/* Keys of the jobs in the values, with spaces between them. */}}
{{- define "hardviews.jobs" -}}
pack pretrain finetune knn linear fewshot transfer classify
{{- end }}

{{/* Labels by which a selector finds the pods of a part of the release; they never change. */}}
{{- define "hardviews.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{/* Labels and annotations of an object: root, part, and the object's own annotations. */}}
{{- define "hardviews.metadata" -}}
{{- $own := include "hardviews.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "hardviews" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) -}}
labels:
  {{- merge $own (.labels | default dict) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Security of a pod, and of a container with the capabilities that it adds, under the standard "restricted". */}}
{{- define "hardviews.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "hardviews.containerSecurity" -}}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    {{- with .add }}
    add:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    drop:
      - ALL
  readOnlyRootFilesystem: true
{{- end }}

{{/* Address of the MLflow server. */}}
{{- define "hardviews.tracking" -}}
{{- if .Values.tracking }}{{ .Values.tracking }}{{ else if .Values.mlflow.enabled }}http://{{ include "hardviews.fullname" . }}-mlflow:5000{{ end }}
{{- end }}

{{/* Secret with the credentials of the chart's S3 server. */}}
{{- define "hardviews.storeSecret" -}}
{{ .Values.objectStore.secret | default (printf "%s-store" (include "hardviews.fullname" .)) }}
{{- end }}
