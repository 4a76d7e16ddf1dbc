{{/* Deployment and Service of one small server: root, part, port, image, command, env, secret env, memory, claim, postStart. */}}
{{- define "hardviews.server" -}}
{{- $name := printf "%s-%s" (include "hardviews.fullname" .root) .part -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "hardviews.metadata" . | nindent 2 }}
spec:
  selector:
    {{- include "hardviews.selector" . | nindent 4 }}
  ports:
    - port: {{ .port }}
      targetPort: {{ .port }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "hardviews.metadata" . | nindent 2 }}
spec:
  replicas: 1
  strategy:
    type: Recreate
  selector:
    matchLabels:
      {{- include "hardviews.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- merge (include "hardviews.selector" . | fromYaml) .root.Values.commonLabels | toYaml | nindent 8 }}
    spec:
      {{- include "hardviews.podSecurity" (int64 (.root.Values.pod.runAsUser | default 10001)) | nindent 6 }}
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .part }}
          image: {{ .image | quote }}
          {{- with .root.Values.pod.imagePullPolicy }}
          imagePullPolicy: {{ . }}
          {{- end }}
          command:
            {{- toYaml .command | nindent 12 }}
          env:
            {{- toYaml .env | nindent 12 }}
          ports:
            - containerPort: {{ .port }}
          readinessProbe:
            tcpSocket:
              port: {{ .port }}
            periodSeconds: 1
          {{- with .postStart }}
          lifecycle:
            postStart:
              exec:
                command: ["sh", "-c", {{ toJson . }}]
          {{- end }}
          resources:
            requests:
              cpu: 50m
              memory: {{ index .memory 0 }}
            limits:
              cpu: "1"
              memory: {{ index .memory 1 }}
          {{- include "hardviews.containerSecurity" . | nindent 10 }}
          volumeMounts:
            - name: data
              mountPath: /data
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: data
          {{- if .claim }}
          persistentVolumeClaim:
            claimName: {{ .claim }}
          {{- else }}
          emptyDir: {}
          {{- end }}
        - name: tmp
          emptyDir: {}
{{- end }}
