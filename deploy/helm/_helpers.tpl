{{- define "penstock.tag" -}}
{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- end }}

{{- define "penstock.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $name }}:{{ include "penstock.tag" $root -}}
{{- end }}

{{- define "penstock.models" -}}
{{- $found := dict -}}
{{- range $.Values.models -}}
{{- $length := dict "max_model_len" (int .settings.PENSTOCK_ENGINE__MAX_MODEL_LEN) -}}
{{- $_ := set $found .settings.PENSTOCK_ENGINE__SERVED_NAME $length -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
