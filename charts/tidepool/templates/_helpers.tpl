{{- define "tidepool.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "tidepool.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "tidepool.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tidepool.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* (list $ "hub") */}}
{{- define "tidepool.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "tidepool.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* (list $ "hub") */}}
{{- define "tidepool.labels" -}}
{{- $root := index . 0 -}}
{{ include "tidepool.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* (list $ image) */}}
{{- define "tidepool.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- $name := $image.repository -}}
{{- if and $root.Values.imageRegistry (not (contains "/" $name)) -}}
{{- $name = printf "%s/%s" ($root.Values.imageRegistry | trimSuffix "/") $name -}}
{{- end -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{/* How the hub and its hooks reach the broker and the API inside the cluster. */}}
{{- define "tidepool.brokerUrl" -}}
{{- if eq .Values.broker.type "external" -}}
{{ .Values.broker.url }}
{{- else if eq .Values.broker.type "mosquitto" -}}
mqtt://{{ include "tidepool.fullname" . }}-mqtt.{{ .Release.Namespace }}.svc:{{ .Values.broker.service.port }}
{{- else -}}
embedded
{{- end }}
{{- end }}

{{- define "tidepool.apiUrl" -}}
http://{{ include "tidepool.fullname" . }}-api.{{ .Release.Namespace }}.svc:{{ .Values.hub.api.service.port }}
{{- end }}

{{/* Of a container that needs nothing of its host. */}}
{{- define "tidepool.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tidepool.confinedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Root, for the host's files belong to root, but without any of root's capabilities. */}}
{{- define "tidepool.onHost" -}}
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- with .Values.agent.seLinuxOptions }}
seLinuxOptions: {{ toJson . }}
{{- end }}
{{- end }}

{{/* agent.yaml, as edge/config/schema.ts reads it. */}}
{{- define "tidepool.agentSettings" -}}
{{- $agent := .Values.agent -}}
hub: {{ toJson .Values.hub.urls }}
poolFromHub: true
{{- with $agent.initialPool }}
pool: {{ . }}
{{- end }}
insecure: {{ .Values.insecure }}
data: {{ $agent.dataDir }}
mirror: 127.0.0.1:{{ $agent.ports.mirror }}
peerPort: {{ $agent.ports.peers }}
ops: 127.0.0.1:{{ $agent.ports.ops }}
{{- with $agent.peers }}
peers: {{ toJson . }}
{{- end }}
{{- with $agent.registries }}
registries:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not (kindIs "invalid" $agent.openRegistries) }}
openRegistries: {{ $agent.openRegistries }}
{{- end }}
defaultRegistry: {{ $agent.defaultRegistry }}
originFallback: {{ $agent.originFallback }}
runtime:
  {{- if $agent.containerd.enabled }}
  criSocket: {{ $agent.containerd.socketDir }}/{{ $agent.containerd.socketName }}
  certsDir: {{ $agent.containerd.certsDir }}
  hostRoot: /host
  {{- else }}
  criSocket: none
  {{- end }}
logLevel: {{ $agent.logLevel }}
{{- with $agent.tuning }}
tuning:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The DaemonSet that puts containerd's files back; made by the uninstall hook, so it is no template of the release. */}}
{{- define "tidepool.restoreDaemonSet" -}}
{{- $agent := .Values.agent -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ include "tidepool.fullname" . }}-restore
  namespace: {{ .Release.Namespace }}
  labels: {{- include "tidepool.labels" (list . "restore") | nindent 4 }}
spec:
  selector:
    matchLabels: {{- include "tidepool.selector" (list . "restore") | nindent 6 }}
  updateStrategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: "100%"}
  template:
    metadata:
      labels: {{- include "tidepool.selector" (list . "restore") | nindent 8 }}
    spec:
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      priorityClassName: {{ $agent.priorityClassName }}
      terminationGracePeriodSeconds: 1
      initContainers:
        - name: restore-containerd
          image: {{ include "tidepool.image" (list . $agent.image) }}
          imagePullPolicy: {{ $agent.image.pullPolicy }}
          args:
            - containerd
            - restore
            - --all
            - --root=/host
            - --certs-dir={{ $agent.containerd.certsDir }}
          securityContext: {{- include "tidepool.onHost" . | nindent 12 }}
          resources: {{- toYaml $agent.resources | nindent 12 }}
          volumeMounts:
            - {name: containerd-config, mountPath: {{ printf "/host%s" $agent.containerd.configDir }}, readOnly: true}
            - {name: certs, mountPath: {{ printf "/host%s" $agent.containerd.certsDir }}}
      containers:
        # A DaemonSet's pod has to stay; this one does nothing.
        - name: done
          image: {{ include "tidepool.image" (list . $agent.image) }}
          imagePullPolicy: {{ $agent.image.pullPolicy }}
          command: [/nodejs/bin/node, -e, "process.on('SIGTERM',()=>process.exit(0));setInterval(()=>{},1e9)"]
          securityContext: {{- include "tidepool.onHost" . | nindent 12 }}
          resources:
            requests: {cpu: 1m, memory: 32Mi}
            limits: {memory: 128Mi}
      volumes:
        - name: containerd-config
          hostPath: {path: {{ $agent.containerd.configDir }}, type: DirectoryOrCreate}
        - name: certs
          hostPath: {path: {{ $agent.containerd.certsDir }}, type: DirectoryOrCreate}
      {{- with $agent.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $agent.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $agent.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* Where hook Jobs run. */}}
{{- define "tidepool.hookPlacement" -}}
{{- with .Values.hub.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hub.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hub.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
