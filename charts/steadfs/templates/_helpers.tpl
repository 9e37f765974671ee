{{/* In front of every name. Room is left for what follows, 63 characters in all. */}}
{{- define "steadfs.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Of objects that belong to no namespace: two releases must not meet. */}}
{{- define "steadfs.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "steadfs.name" .) -}}
{{- end -}}

{{- define "steadfs.namenode" -}}
{{- printf "%s-namenode.%s.svc" (include "steadfs.name" .) .Release.Namespace -}}
{{- with .Values.network.clusterDomain -}}.{{ . }}{{- end -}}
{{- end -}}

{{- define "steadfs.url" -}}
{{- printf "hdfs://%s:8020" (include "steadfs.namenode" .) -}}
{{- end -}}

{{- define "steadfs.driver" -}}
{{- if .Values.csi.driverName -}}{{ .Values.csi.driverName }}
{{- else if eq (include "steadfs.name" .) "steadfs" -}}csi.steadfs.dev
{{- else -}}{{ include "steadfs.name" . }}.{{ .Release.Namespace }}.csi.steadfs.dev
{{- end -}}
{{- end -}}

{{- define "steadfs.storageClass" -}}
{{- if .Values.storageClass.name -}}{{ .Values.storageClass.name }}
{{- else if eq (include "steadfs.name" .) "steadfs" -}}steadfs
{{- else -}}{{ include "steadfs.clusterName" . }}
{{- end -}}
{{- end -}}

{{/* The release's folder on each node. */}}
{{- define "steadfs.hostFolder" -}}
{{- printf "%s/%s/%s" (trimSuffix "/" .Values.hostRoot) .Release.Namespace (include "steadfs.name" .) -}}
{{- end -}}

{{- define "steadfs.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* What tells the pods of a part: never changes, as selectors cannot. Takes (list . "namenode"). */}}
{{- define "steadfs.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: steadfs
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of objects and pods. Takes (list . "namenode"). */}}
{{- define "steadfs.labels" -}}
{{- $root := index . 0 -}}
{{ include "steadfs.selector" . }}
app.kubernetes.io/part-of: steadfs
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object of the namespace. Takes (list . "component" "suffix"). */}}
{{- define "steadfs.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "steadfs.name" $root }}-{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels: {{- include "steadfs.labels" . | nindent 2 }}
{{- with $root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels of pods: what a chart's version changes stays out, so that nothing restarts for it. */}}
{{- define "steadfs.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "steadfs.selector" . }}
app.kubernetes.io/part-of: steadfs
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "steadfs.podBasics" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "steadfs.priority" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.priorityClasses.create }}
priorityClassName: {{ include "steadfs.clusterName" $root }}-{{ index . 1 }}
{{- end }}
{{- end -}}

{{/* For containers that need nothing but their files and the network. */}}
{{- define "steadfs.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 8020
runAsGroup: 8020
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Gives folders of the node to the user that the main container runs as. Takes (list . "/folder /folder" mounts). */}}
{{- define "steadfs.ownFolders" -}}
{{- $root := index . 0 -}}
- name: own-folders
  image: {{ include "steadfs.image" $root }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  terminationMessagePolicy: FallbackToLogsOnError
  command: [chown, "8020:8020"]
  args: {{ index . 1 | toJson }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsUser: 0
    runAsNonRoot: false
    capabilities: {drop: [ALL], add: [CHOWN]}
    seccompProfile: {type: RuntimeDefault}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  volumeMounts: {{- toYaml (index . 2) | nindent 4 }}
{{- end -}}

{{/* TOML of a map: first its keys, then its tables. Takes (list map "prefix."). JSON's scalars and lists are TOML's. */}}
{{- define "steadfs.toml" -}}
{{- $prefix := index . 1 -}}
{{- range $key, $value := index . 0 }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := index . 0 }}
{{- if kindIs "map" $value }}
{{- $name := printf "%s%s" $prefix $key }}

[{{ $name }}]
{{- include "steadfs.toml" (list $value (printf "%s." $name)) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "steadfs.serviceFamilies" -}}
{{- with .Values.network.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.network.ipFamilies }}
ipFamilies: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Spread over nodes where there are several. Takes (list . "component"). */}}
{{- define "steadfs.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "steadfs.selector" . | nindent 8 }}
{{- end -}}
