"""Every field of the modelled kinds, as Kubernetes 1.33 has them (k8s.io/api: core/v1, apps/v1, networking/v1,
discovery/v1, autoscaling and meta/v1 types.go; k8s.io/kube-proxy/config/v1alpha1/types.go).

One line per struct: `field:type …`. Types: s text, i integer, f number, b boolean, n integer or text (IntOrString),
q quantity, any; `{T}` map of T, `[T]` list that a patch replaces, `[T]/KEY` list merged by KEY, `[T]+` list of plain
values merged as a set (the `patchStrategy` and `patchMergeKey` tags), otherwise a struct's name.
"""

STRUCTS = """
ObjectMeta name:s generateName:s namespace:s selfLink:s uid:s resourceVersion:s generation:i creationTimestamp:s
  deletionTimestamp:s deletionGracePeriodSeconds:i labels:{s} annotations:{s} ownerReferences:[OwnerReference]/uid
  finalizers:[s]+ managedFields:any clusterName:s
OwnerReference apiVersion:s kind:s name:s uid:s controller:b blockOwnerDeletion:b
LabelSelector matchLabels:{s} matchExpressions:[LabelSelectorRequirement]
LabelSelectorRequirement key:s operator:s values:[s]
Condition type:s status:s observedGeneration:i lastTransitionTime:s lastUpdateTime:s lastProbeTime:s
  lastHeartbeatTime:s reason:s message:s
LocalObjectReference name:s
ObjectReference apiVersion:s kind:s namespace:s name:s uid:s resourceVersion:s fieldPath:s
TypedLocalObjectReference apiGroup:s kind:s name:s
TypedObjectReference apiGroup:s kind:s name:s namespace:s

Namespace spec:NamespaceSpec status:NamespaceStatus
NamespaceSpec finalizers:[s]
NamespaceStatus phase:s conditions:[Condition]/type

Node spec:NodeSpec status:NodeStatus
NodeSpec podCIDR:s podCIDRs:[s]+ providerID:s unschedulable:b taints:[Taint] configSource:any externalID:s
Taint key:s value:s effect:s timeAdded:s
NodeStatus capacity:{q} allocatable:{q} phase:s conditions:[Condition]/type addresses:[NodeAddress]/type
  daemonEndpoints:any nodeInfo:any images:any volumesInUse:any volumesAttached:any config:any runtimeHandlers:any
  features:any declaredFeatures:any
NodeAddress type:s address:s

Pod spec:PodSpec status:PodStatus
PodTemplateSpec metadata:ObjectMeta spec:PodSpec
PodSpec volumes:[Volume]/name initContainers:[Container]/name containers:[Container]/name
  ephemeralContainers:[Container]/name restartPolicy:s terminationGracePeriodSeconds:i activeDeadlineSeconds:i
  dnsPolicy:s nodeSelector:{s} serviceAccountName:s serviceAccount:s automountServiceAccountToken:b nodeName:s
  hostNetwork:b hostPID:b hostIPC:b shareProcessNamespace:b securityContext:PodSecurityContext
  imagePullSecrets:[LocalObjectReference]/name hostname:s subdomain:s affinity:Affinity schedulerName:s
  tolerations:[Toleration] hostAliases:[HostAlias]/ip priorityClassName:s priority:i dnsConfig:PodDNSConfig
  readinessGates:[PodReadinessGate] runtimeClassName:s enableServiceLinks:b preemptionPolicy:s overhead:{q}
  topologySpreadConstraints:[TopologySpreadConstraint]/topologyKey setHostnameAsFQDN:b os:PodOS hostUsers:b
  schedulingGates:[PodSchedulingGate]/name resourceClaims:[PodResourceClaim]/name resources:ResourceRequirements
  hostnameOverride:s workloadRef:any
PodOS name:s
PodReadinessGate conditionType:s
PodSchedulingGate name:s
PodResourceClaim name:s resourceClaimName:s resourceClaimTemplateName:s source:any
HostAlias ip:s hostnames:[s]
PodDNSConfig nameservers:[s] searches:[s] options:[PodDNSConfigOption]
PodDNSConfigOption name:s value:s
Toleration key:s operator:s value:s effect:s tolerationSeconds:i
TopologySpreadConstraint maxSkew:i topologyKey:s whenUnsatisfiable:s labelSelector:LabelSelector minDomains:i
  nodeAffinityPolicy:s nodeTaintsPolicy:s matchLabelKeys:[s]
Affinity nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity
NodeAffinity requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
  preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
NodeSelector nodeSelectorTerms:[NodeSelectorTerm]
NodeSelectorTerm matchExpressions:[LabelSelectorRequirement] matchFields:[LabelSelectorRequirement]
PreferredSchedulingTerm weight:i preference:NodeSelectorTerm
PodAffinity requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
  preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
PodAffinityTerm labelSelector:LabelSelector namespaces:[s] topologyKey:s namespaceSelector:LabelSelector
  matchLabelKeys:[s] mismatchLabelKeys:[s]
WeightedPodAffinityTerm weight:i podAffinityTerm:PodAffinityTerm
PodSecurityContext seLinuxOptions:any windowsOptions:any runAsUser:i runAsGroup:i runAsNonRoot:b
  supplementalGroups:[i] supplementalGroupsPolicy:s fsGroup:i sysctls:[Sysctl] fsGroupChangePolicy:s
  seccompProfile:SeccompProfile appArmorProfile:SeccompProfile seLinuxChangePolicy:s
Sysctl name:s value:s
SeccompProfile type:s localhostProfile:s
Container name:s image:s command:[s] args:[s] workingDir:s ports:[ContainerPort]/containerPort envFrom:[EnvFromSource]
  env:[EnvVar]/name resources:ResourceRequirements resizePolicy:[ContainerResizePolicy] restartPolicy:s
  restartPolicyRules:any volumeMounts:[VolumeMount]/mountPath volumeDevices:[VolumeDevice]/devicePath
  livenessProbe:Probe readinessProbe:Probe startupProbe:Probe lifecycle:Lifecycle terminationMessagePath:s
  terminationMessagePolicy:s imagePullPolicy:s securityContext:SecurityContext stdin:b stdinOnce:b tty:b
  targetContainerName:s
ContainerResizePolicy resourceName:s restartPolicy:s
ContainerPort name:s hostPort:i containerPort:i protocol:s hostIP:s
EnvVar name:s value:s valueFrom:EnvVarSource
EnvVarSource fieldRef:ObjectFieldSelector resourceFieldRef:ResourceFieldSelector configMapKeyRef:KeySelector
  secretKeyRef:KeySelector fileKeyRef:any
EnvFromSource prefix:s configMapRef:OptionalReference secretRef:OptionalReference
OptionalReference name:s optional:b
KeySelector name:s key:s optional:b
ObjectFieldSelector apiVersion:s fieldPath:s
ResourceFieldSelector containerName:s resource:s divisor:q
ResourceRequirements limits:{q} requests:{q} claims:[ResourceClaim]
ResourceClaim name:s request:s
VolumeMount name:s readOnly:b recursiveReadOnly:s mountPath:s subPath:s mountPropagation:s subPathExpr:s
VolumeDevice name:s devicePath:s
Probe exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction grpc:GRPCAction initialDelaySeconds:i
  timeoutSeconds:i periodSeconds:i successThreshold:i failureThreshold:i terminationGracePeriodSeconds:i
ExecAction command:[s]
HTTPGetAction path:s port:n host:s scheme:s httpHeaders:[HTTPHeader]
HTTPHeader name:s value:s
TCPSocketAction port:n host:s
GRPCAction port:i service:s
Lifecycle postStart:LifecycleHandler preStop:LifecycleHandler stopSignal:s
LifecycleHandler exec:ExecAction httpGet:HTTPGetAction tcpSocket:TCPSocketAction sleep:SleepAction
SleepAction seconds:i
SecurityContext capabilities:Capabilities privileged:b seLinuxOptions:any windowsOptions:any runAsUser:i runAsGroup:i
  runAsNonRoot:b readOnlyRootFilesystem:b allowPrivilegeEscalation:b procMount:s seccompProfile:SeccompProfile
  appArmorProfile:SeccompProfile
Capabilities add:[s] drop:[s]
Volume name:s hostPath:HostPath emptyDir:EmptyDir gcePersistentDisk:any awsElasticBlockStore:any gitRepo:any
  secret:SecretVolume nfs:any iscsi:any glusterfs:any persistentVolumeClaim:ClaimVolume rbd:any flexVolume:any
  cinder:any cephfs:any flocker:any downwardAPI:any fc:any azureFile:any configMap:ConfigMapVolume vsphereVolume:any
  quobyte:any azureDisk:any photonPersistentDisk:any projected:Projected portworxVolume:any scaleIO:any storageos:any
  csi:any ephemeral:any image:any
HostPath path:s type:s
EmptyDir medium:s sizeLimit:q
SecretVolume secretName:s items:[KeyToPath] defaultMode:i optional:b
ConfigMapVolume name:s items:[KeyToPath] defaultMode:i optional:b
KeyToPath key:s path:s mode:i
ClaimVolume claimName:s readOnly:b
Projected sources:[any] defaultMode:i
PodStatus phase:s conditions:[Condition]/type message:s reason:s nominatedNodeName:s hostIP:s hostIPs:[IPEntry]
  podIP:s podIPs:[IPEntry]/ip startTime:s initContainerStatuses:[ContainerStatus] containerStatuses:[ContainerStatus]
  qosClass:s ephemeralContainerStatuses:[ContainerStatus] resize:s resourceClaimStatuses:any observedGeneration:i
  extendedResourceClaimStatus:any allocatedResources:any resources:any
IPEntry ip:s
ContainerStatus name:s state:ContainerState lastState:ContainerState ready:b restartCount:i image:s imageID:s
  containerID:s started:b allocatedResources:any resources:any volumeMounts:any user:any allocatedResourcesStatus:any
  stopSignal:s
ContainerState waiting:StateWaiting running:StateRunning terminated:StateTerminated
StateWaiting reason:s message:s
StateRunning startedAt:s
StateTerminated exitCode:i signal:i reason:s message:s startedAt:s finishedAt:s containerID:s

Deployment spec:DeploymentSpec status:WorkloadStatus
DeploymentSpec replicas:i selector:LabelSelector template:PodTemplateSpec strategy:DeploymentStrategy
  minReadySeconds:i revisionHistoryLimit:i paused:b progressDeadlineSeconds:i rollbackTo:any
DeploymentStrategy type:s rollingUpdate:RollingUpdateDeployment
RollingUpdateDeployment maxUnavailable:n maxSurge:n
WorkloadStatus observedGeneration:i replicas:i updatedReplicas:i readyReplicas:i availableReplicas:i
  unavailableReplicas:i terminatingReplicas:i fullyLabeledReplicas:i currentReplicas:i currentRevision:s
  updateRevision:s collisionCount:i conditions:[Condition]/type currentNumberScheduled:i numberMisscheduled:i
  desiredNumberScheduled:i numberReady:i updatedNumberScheduled:i numberAvailable:i numberUnavailable:i
ReplicaSet spec:ReplicaSetSpec status:WorkloadStatus
ReplicaSetSpec replicas:i minReadySeconds:i selector:LabelSelector template:PodTemplateSpec
StatefulSet spec:StatefulSetSpec status:WorkloadStatus
StatefulSetSpec replicas:i selector:LabelSelector template:PodTemplateSpec volumeClaimTemplates:[any] serviceName:s
  podManagementPolicy:s updateStrategy:StatefulSetStrategy revisionHistoryLimit:i minReadySeconds:i
  persistentVolumeClaimRetentionPolicy:any ordinals:StatefulSetOrdinals
StatefulSetStrategy type:s rollingUpdate:RollingUpdateStatefulSet
RollingUpdateStatefulSet partition:i maxUnavailable:n
StatefulSetOrdinals start:i
DaemonSet spec:DaemonSetSpec status:WorkloadStatus
DaemonSetSpec selector:LabelSelector template:PodTemplateSpec updateStrategy:DeploymentStrategy
  minReadySeconds:i revisionHistoryLimit:i templateGeneration:i

Service spec:ServiceSpec status:ServiceStatus
ServiceSpec ports:[ServicePort]/port selector:{s} clusterIP:s clusterIPs:[s] type:s externalIPs:[s] sessionAffinity:s
  loadBalancerIP:s loadBalancerSourceRanges:[s] externalName:s externalTrafficPolicy:s healthCheckNodePort:i
  publishNotReadyAddresses:b sessionAffinityConfig:SessionAffinityConfig ipFamilies:[s] ipFamilyPolicy:s
  allocateLoadBalancerNodePorts:b loadBalancerClass:s internalTrafficPolicy:s trafficDistribution:s
ServicePort name:s protocol:s appProtocol:s port:i targetPort:n nodePort:i
SessionAffinityConfig clientIP:ClientIPConfig
ClientIPConfig timeoutSeconds:i
ServiceStatus loadBalancer:LoadBalancerStatus conditions:[Condition]/type
LoadBalancerStatus ingress:[LoadBalancerIngress]
LoadBalancerIngress ip:s hostname:s ipMode:s ports:[PortStatus]
PortStatus port:i protocol:s error:s

EndpointSlice addressType:s endpoints:[Endpoint] ports:[EndpointPort]
Endpoints subsets:[EndpointSubset]
EndpointSubset addresses:[EndpointAddress] notReadyAddresses:[EndpointAddress] ports:[EndpointPort]
EndpointAddress ip:s hostname:s nodeName:s targetRef:ObjectReference

Endpoint addresses:[s] conditions:EndpointConditions hostname:s targetRef:ObjectReference deprecatedTopology:{s}
  nodeName:s zone:s hints:EndpointHints
EndpointConditions ready:b serving:b terminating:b
EndpointHints forZones:[ForName] forNodes:[ForName]
ForName name:s
EndpointPort name:s protocol:s port:i appProtocol:s

Ingress spec:IngressSpec status:IngressStatus
IngressSpec ingressClassName:s defaultBackend:IngressBackend tls:[IngressTLS] rules:[IngressRule]
IngressTLS hosts:[s] secretName:s
IngressRule host:s http:HTTPIngressRuleValue
HTTPIngressRuleValue paths:[HTTPIngressPath]
HTTPIngressPath path:s pathType:s backend:IngressBackend
IngressBackend service:IngressServiceBackend resource:TypedLocalObjectReference
IngressServiceBackend name:s port:ServiceBackendPort
ServiceBackendPort name:s number:i
IngressStatus loadBalancer:LoadBalancerStatus
IngressClass spec:IngressClassSpec
IngressClassSpec controller:s parameters:IngressClassParameters
IngressClassParameters apiGroup:s kind:s name:s scope:s namespace:s

PodDisruptionBudget spec:PodDisruptionBudgetSpec status:PodDisruptionBudgetStatus
PodDisruptionBudgetSpec minAvailable:n maxUnavailable:n selector:LabelSelector unhealthyPodEvictionPolicy:s
PodDisruptionBudgetStatus observedGeneration:i disruptedPods:{s} disruptionsAllowed:i currentHealthy:i desiredHealthy:i
  expectedPods:i conditions:[Condition]/type

PriorityClass value:i globalDefault:b description:s preemptionPolicy:s

HorizontalPodAutoscaler spec:HPASpec status:HPAStatus
HPASpec scaleTargetRef:CrossVersionObjectReference minReplicas:i maxReplicas:i metrics:[MetricSpec]
  behavior:HPABehavior targetCPUUtilizationPercentage:i
CrossVersionObjectReference kind:s name:s apiVersion:s
MetricSpec type:s resource:ResourceMetricSource containerResource:any pods:any object:any external:any
ResourceMetricSource name:s target:MetricTarget targetAverageUtilization:i targetAverageValue:q
MetricTarget type:s value:q averageValue:q averageUtilization:i
HPABehavior scaleUp:HPAScalingRules scaleDown:HPAScalingRules
HPAScalingRules stabilizationWindowSeconds:i selectPolicy:s policies:[HPAScalingPolicy] tolerance:q
HPAScalingPolicy type:s value:i periodSeconds:i
HPAStatus observedGeneration:i lastScaleTime:s currentReplicas:i desiredReplicas:i currentMetrics:any
  conditions:[Condition]/type currentCPUUtilizationPercentage:i

ConfigMap immutable:b data:{s} binaryData:{s}
Secret immutable:b data:{s} stringData:{s} type:s

KubeProxyConfiguration featureGates:{b} clientConnection:any logging:any hostnameOverride:s bindAddress:s
  healthzBindAddress:s metricsBindAddress:s bindAddressHardFail:b enableProfiling:b showHiddenMetricsForVersion:s
  mode:s iptables:ProxyIPTables ipvs:ProxyIPVS nftables:ProxyNFTables winkernel:any detectLocalMode:s
  detectLocal:DetectLocal clusterCIDR:s nodePortAddresses:[s] oomScoreAdj:i conntrack:ProxyConntrack
  configSyncPeriod:s portRange:s windowsRunAsService:b
ProxyIPTables masqueradeBit:i masqueradeAll:b localhostNodePorts:b syncPeriod:s minSyncPeriod:s
ProxyIPVS syncPeriod:s minSyncPeriod:s scheduler:s excludeCIDRs:[s] strictARP:b tcpTimeout:s tcpFinTimeout:s
  udpTimeout:s
ProxyNFTables masqueradeBit:i masqueradeAll:b syncPeriod:s minSyncPeriod:s
DetectLocal bridgeInterface:s interfaceNamePrefix:s
ProxyConntrack maxPerCore:i min:i tcpEstablishedTimeout:s tcpCloseWaitTimeout:s tcpBeLiberal:b udpTimeout:s
  udpStreamTimeout:s

Job spec:JobSpec status:JobStatus
JobSpec parallelism:i completions:i activeDeadlineSeconds:i podFailurePolicy:PodFailurePolicy
  successPolicy:SuccessPolicy
  backoffLimit:i backoffLimitPerIndex:i maxFailedIndexes:i selector:LabelSelector manualSelector:b
  template:PodTemplateSpec ttlSecondsAfterFinished:i completionMode:s suspend:b podReplacementPolicy:s managedBy:s
SuccessPolicy rules:[SuccessPolicyRule]
SuccessPolicyRule succeededIndexes:s succeededCount:i
PodFailurePolicy rules:[PodFailurePolicyRule]
PodFailurePolicyRule action:s onExitCodes:PodFailurePolicyOnExitCodes onPodConditions:[PodFailurePolicyOnPodCondition]
PodFailurePolicyOnExitCodes containerName:s operator:s values:[i]
PodFailurePolicyOnPodCondition type:s status:s
JobStatus conditions:[Condition]/type startTime:s completionTime:s active:i terminating:i succeeded:i failed:i
  completedIndexes:s failedIndexes:s uncountedTerminatedPods:any ready:i
CronJob spec:CronJobSpec status:any
CronJobSpec jobTemplate:JobTemplateSpec
JobTemplateSpec metadata:ObjectMeta spec:JobSpec
ServiceAccount secrets:[ObjectReference]/name imagePullSecrets:[LocalObjectReference]/name
  automountServiceAccountToken:b
"""
