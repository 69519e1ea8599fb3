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
{{ .Values.insecure | ternary "http" "https" }}://{{ include "tidepool.fullname" . }}-api.{{ .Release.Namespace }}.svc:{{ .Values.hub.api.service.port }}
{{- end }}

{{/* Host of an mqtt:// or mqtts:// URL, with the brackets of an IPv6 address: (include … (index .Values.hub.urls 0)) */}}
{{- define "tidepool.hostOf" -}}
{{- regexReplaceAll ":[0-9]+$" (urlParse .).host "" -}}
{{- end }}

{{/* How nodes get to the API. With TLS they have to, to be enrolled; plain, it stays inside the cluster. */}}
{{- define "tidepool.apiServiceType" -}}
{{- if .Values.hub.api.service.type -}}
{{ .Values.hub.api.service.type }}
{{- else if or .Values.insecure (and (ne .Values.broker.type "external") (ne .Values.broker.service.type "NodePort")) -}}
ClusterIP
{{- else -}}
NodePort
{{- end }}
{{- end }}

{{/* One load balancer for both, where nothing else is said: two of them have two addresses. Empty: it has the broker's port only. */}}
{{- define "tidepool.apiBesideBroker" -}}
{{- if and (not .Values.insecure) (not .Values.hub.api.service.type) (eq .Values.broker.type "embedded") (eq .Values.broker.service.type "LoadBalancer") -}}
true
{{- end }}
{{- end }}

{{/* Where nodes reach the API; empty where nobody but you can know. */}}
{{- define "tidepool.enrollUrl" -}}
{{- $api := .Values.hub.api.service -}}
{{- if .Values.hub.enrollUrl -}}
{{ .Values.hub.enrollUrl | trimSuffix "/" }}
{{- else if and .Values.hub.urls (ne .Values.broker.type "external") -}}
{{- $host := include "tidepool.hostOf" (index .Values.hub.urls 0) -}}
{{- if include "tidepool.apiBesideBroker" . -}}
https://{{ $host }}:{{ $api.port }}
{{- else if and (eq (include "tidepool.apiServiceType" .) "NodePort") $api.nodePort -}}
https://{{ $host }}:{{ $api.nodePort }}
{{- end }}
{{- end }}
{{- end }}

{{/* Names and addresses of the hub, as a list in JSON. */}}
{{- define "tidepool.hosts" -}}
{{- $full := include "tidepool.fullname" . -}}
{{- $hosts := list -}}
{{- range $name := list (printf "%s-api" $full) (printf "%s-mqtt" $full) -}}
{{- $hosts = concat $hosts (list (printf "%s.%s.svc" $name $.Release.Namespace) (printf "%s.%s" $name $.Release.Namespace) $name) -}}
{{- end -}}
{{- range $url := concat .Values.hub.urls (list (include "tidepool.enrollUrl" .)) -}}
{{- if $url -}}
{{- $hosts = append $hosts (include "tidepool.hostOf" $url | trimPrefix "[" | trimSuffix "]") -}}
{{- end -}}
{{- end -}}
{{ concat $hosts .Values.hub.trust.hosts | uniq | toJson }}
{{- end }}

{{- define "tidepool.rootsName" -}}
{{ include "tidepool.fullname" . }}-roots
{{- end }}

{{/* hub.yaml, as cloud/config/settings.ts reads it; empty where flags say everything. */}}
{{- define "tidepool.hubSettings" -}}
{{- $hub := .Values.hub -}}
{{- if not .Values.insecure -}}
trust:
  hosts: {{ include "tidepool.hosts" . }}
  # The authority; whom it has let in is beside it, with -book behind the name.
  secret: {{ include "tidepool.fullname" . }}-hub-trust
  rootsConfigMap: {{ include "tidepool.rootsName" . }}
  serviceAccounts: [{{ .Release.Namespace }}/{{ include "tidepool.fullname" . }}-agent]
  {{- with $hub.trust.authority }}
  {{- if .secretName }}
  caCert: /etc/tidepool-authority/tls.crt
  caKey: /etc/tidepool-authority/tls.key
  {{- if .rootsConfigMap }}
  roots: /etc/tidepool-roots/{{ .rootsKey }}
  {{- end }}
  {{- end }}
  {{- end }}
  certificateLifetime: {{ $hub.trust.certificateLifetime }}
  grace: {{ $hub.trust.grace }}
{{- end }}
{{- if $hub.pushHook.rules }}
hooks:
  registry:
    secretFile: /etc/tidepool-push-hook/{{ $hub.pushHook.secretKey }}
    rules: {{ toJson $hub.pushHook.rules }}
{{- end }}
{{- end }}

{{/* Where containerd asks. It shows accounts there: with TLS nobody but root of the node can take the port while the agent is down. */}}
{{- define "tidepool.mirrorPort" -}}
{{ .Values.agent.ports.mirror | default (.Values.insecure | ternary 6180 618) }}
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
{{- include "tidepool.root" (list . "{drop: [ALL]}") }}
{{- end }}

{{/* The agent, which alone of them listens: for a port under 1024 it needs that one capability. */}}
{{- define "tidepool.onHostListening" -}}
{{- $least := 1024 -}}
{{- range $port := list (include "tidepool.mirrorPort" .) .Values.agent.ports.peers .Values.agent.ports.ops -}}
{{- $least = min $least (int $port) -}}
{{- end -}}
{{- include "tidepool.root" (list . (lt (int $least) 1024 | ternary "{drop: [ALL], add: [NET_BIND_SERVICE]}" "{drop: [ALL]}")) }}
{{- end }}

{{/* (list $ capabilities) */}}
{{- define "tidepool.root" -}}
{{- $root := index . 0 -}}
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {{ index . 1 }}
seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.agent.seLinuxOptions }}
seLinuxOptions: {{ toJson . }}
{{- end }}
{{- end }}

{{/* agent.yaml, as edge/config/schema.ts reads it. */}}
{{- define "tidepool.agentSettings" -}}
{{- $agent := .Values.agent -}}
hub: {{ toJson .Values.hub.urls }}
poolFromHub: true
{{- if .Values.insecure }}
{{- with $agent.initialPool }}
pool: {{ . }}
{{- end }}
{{- end }}
insecure: {{ .Values.insecure }}
{{- if not .Values.insecure }}
trust:
  saTokenFile: /var/run/secrets/tidepool/token
  caFile: /var/run/secrets/tidepool/ca.pem
  enrollUrl: {{ include "tidepool.enrollUrl" . }}
  grace: {{ .Values.hub.trust.grace }}
{{- end }}
data: {{ $agent.dataDir }}
mirror: 127.0.0.1:{{ include "tidepool.mirrorPort" . }}
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
  {{- with $agent.containerd.contentDir }}
  containerdContent: {{ . }}
  {{- end }}
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
