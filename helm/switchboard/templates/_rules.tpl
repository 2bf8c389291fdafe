{{/*
What the operator may do to pools and what they own, and no more: exactly the verbs it uses. It deletes nothing but Pods (and
reads no namespace): everything else a pool owns goes with the pool, by owner reference.
*/}}
{{- define "switchboard.rules" -}}
- apiGroups: [switchboard.dev]
  resources: [voipproxypools]
  verbs: [get, list, watch]
- apiGroups: [switchboard.dev]
  resources: [voipproxypools/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
# Server-side apply of something that is not there yet needs create as well as patch.
- apiGroups: [""]
  resources: [services, configmaps, secrets, serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
