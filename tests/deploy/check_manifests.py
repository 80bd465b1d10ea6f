"""What is deployed with: valid for those who read it, and true of the broker that it runs."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).resolve().parents[2]
BROKER = os.environ["FANFARE_BIN"]
MANIFESTS = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
assert [file.name for file in MANIFESTS] == ["cluster.yaml", "single.yaml"]
# The oldest release that they are for, and the newest whose schemas are at hand.
RELEASES = ["1.31", "1.37"]


def documents(manifest):
    return list(yaml.safe_load_all(manifest.read_text()))


def of_kind(manifest, *kinds):
    return [document for document in documents(manifest) if document["kind"] in kinds]


def workload(manifest):
    (only,) = of_kind(manifest, "Deployment", "StatefulSet")
    return only


def pod(manifest):
    return workload(manifest)["spec"]["template"]["spec"]


def container(manifest):
    (only,) = pod(manifest)["containers"]
    return only


def settings(manifest):
    """The configuration in the Secret, as the broker reads it, and what it says of it."""
    (secret,) = of_kind(manifest, "Secret")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "fanfare.toml")
        file.write_text(secret["stringData"]["fanfare.toml"])
        checked = subprocess.run(
            [BROKER, "check", "--config", file], cwd=directory, capture_output=True, text=True
        )
    return checked, dict(re.findall(r"^(\S+) = (.*?)  \(", checked.stdout, re.MULTILINE))


def seconds(text):
    return float(re.fullmatch(r'"?(\d+)s"?', text).group(1))


class Kubernetes(unittest.TestCase):
    def test_every_object_is_as_the_schemas_of_kubernetes_have_it(self):
        for manifest in MANIFESTS:
            for document in documents(manifest):
                for release in RELEASES:
                    kubernetes_validate.validate(document, release, strict=True)

    def test_the_schemas_find_what_is_wrong(self):
        wrong = workload(MANIFESTS[0])
        wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
        for release in RELEASES:
            with self.assertRaises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(wrong, release, strict=True)

    def test_the_configuration_is_good(self):
        for manifest in MANIFESTS:
            checked, known = settings(manifest)
            self.assertEqual(checked.returncode, 0, checked.stderr)
            self.assertIn("server.internal_listen", known)

    def test_probes_ask_what_the_api_has_where_the_broker_listens(self):
        api = json.loads((ROOT / "openapi/openapi.json").read_text())["paths"]
        for manifest in MANIFESTS:
            _, known = settings(manifest)
            ports = {port["name"]: port["containerPort"] for port in container(manifest)["ports"]}
            listening = {
                "http": int(known["server.listen"].strip('"').rsplit(":", 1)[1]),
                "internal": int(known["server.internal_listen"].strip('"').rsplit(":", 1)[1]),
            }
            self.assertEqual(ports, listening)
            for probe, path in [
                ("startupProbe", "/health/live"),
                ("livenessProbe", "/health/live"),
                ("readinessProbe", "/health/ready"),
            ]:
                asked = container(manifest)[probe]["httpGet"]
                self.assertEqual((asked["path"], asked["port"]), (path, "internal"))
                self.assertIn("get", api[path])

    def test_a_drain_fits_in_its_time(self):
        for manifest in MANIFESTS:
            _, known = settings(manifest)
            delay = seconds(known.get("server.shutdown_delay", "0s"))
            # Their defaults, and the last requests.
            stop = delay + 5 + 5 + 3
            self.assertGreater(pod(manifest)["terminationGracePeriodSeconds"], stop)
            ready = container(manifest)["readinessProbe"]
            if workload(manifest)["spec"]["replicas"] > 1:
                self.assertGreater(delay, ready["periodSeconds"] * ready["failureThreshold"] + 5)

    def test_pods_keep_to_the_restricted_profile(self):
        for manifest in MANIFESTS:
            (namespace,) = of_kind(manifest, "Namespace")
            enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            self.assertEqual(enforced, "restricted")
            whole, own = pod(manifest)["securityContext"], container(manifest)["securityContext"]
            self.assertEqual(whole["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertTrue(whole["runAsNonRoot"] and whole["runAsUser"] > 0)
            self.assertEqual(own["capabilities"], {"drop": ["ALL"]})
            self.assertFalse(own["allowPrivilegeEscalation"])
            self.assertTrue(own["readOnlyRootFilesystem"])
            self.assertFalse(pod(manifest)["automountServiceAccountToken"])
            volumes = pod(manifest)["volumes"]
            self.assertTrue(all(set(volume) == {"name", "secret"} for volume in volumes))

    def test_selectors_find_the_pods_and_budgets_let_nodes_be_drained(self):
        for manifest in MANIFESTS:
            spec = workload(manifest)["spec"]
            labels = spec["template"]["metadata"]["labels"]
            self.assertEqual(spec["selector"]["matchLabels"], labels)
            for service in of_kind(manifest, "Service"):
                self.assertEqual(service["spec"]["selector"], labels)
                names = {port["name"] for port in container(manifest)["ports"]}
                self.assertTrue({port["targetPort"] for port in service["spec"]["ports"]} <= names)
            budgets = of_kind(manifest, "PodDisruptionBudget")
            self.assertEqual(len(budgets), 1 if spec["replicas"] > 1 else 0)
            for budget in budgets:
                self.assertEqual(budget["spec"]["selector"]["matchLabels"], labels)
                self.assertEqual(budget["spec"]["maxUnavailable"], 1)

    def test_what_publishes_and_operates_is_open_to_who_is_named_alone(self):
        for manifest in MANIFESTS:
            (policy,) = of_kind(manifest, "NetworkPolicy")
            labels = workload(manifest)["spec"]["template"]["metadata"]["labels"]
            self.assertEqual(policy["spec"]["podSelector"]["matchLabels"], labels)
            for rule in policy["spec"]["ingress"]:
                open_to_all = "from" not in rule
                self.assertEqual([port["port"] for port in rule["ports"]], ["http" if open_to_all else "internal"])

    def test_a_history_on_a_volume_fits_on_it(self):
        (single,) = [file for file in MANIFESTS if file.name == "single.yaml"]
        _, known = settings(single)
        mounts = {mount["name"]: mount["mountPath"] for mount in container(single)["volumeMounts"]}
        self.assertTrue(known["history.path"].strip('"').startswith(mounts["history"] + "/"))
        (claim,) = workload(single)["spec"]["volumeClaimTemplates"]
        size = claim["spec"]["resources"]["requests"]["storage"]
        # Its defaults: 8 GiB, 64 MiB, 16 MiB and 256 MiB.
        self.assertGreater(int(size.removesuffix("Gi")) * 1024, 8 * 1024 + 64 + 16 + 256)


class Compose(unittest.TestCase):
    text = (ROOT / "docker-compose.yml").read_text()

    def test_the_file_is_as_compose_has_it(self):
        PyCompose.from_yaml(self.text).validate()

    def test_what_is_wrong_is_found(self):
        for right, wrong in [
            ("stop_grace_period", "stop_grace_periods"),
            ("condition: service_healthy", "condition: healthy"),
            ("interval: 5s", "interval: often"),
            ("source: prometheus", "source: promethean"),
        ]:
            self.assertIn(right, self.text)
            with self.subTest(wrong=wrong), self.assertRaises(ValueError):
                PyCompose.from_yaml(self.text.replace(right, wrong)).validate()

    def test_nodes_have_time_to_stop_and_are_waited_for(self):
        services = yaml.safe_load(self.text)["services"]
        for node in ["node-1", "node-2"]:
            delay = seconds(services[node]["environment"]["FANFARE_SERVER_SHUTDOWN_DELAY"])
            self.assertGreater(seconds(services[node]["stop_grace_period"]), delay + 5 + 5 + 3)
            self.assertEqual(services[node]["healthcheck"]["test"][:3], ["CMD", "/fanfare", "health"])
            waits = services["balancer"]["depends_on"][node]
            self.assertEqual(waits, {"condition": "service_healthy"})


class Image(unittest.TestCase):
    text = (ROOT / "Dockerfile").read_text()

    def test_it_runs_as_nobody_in_particular(self):
        self.assertRegex(self.text, r"(?m)^FROM gcr.io/distroless/cc-debian12:nonroot$")
        self.assertNotIn("\nUSER root", self.text)

    def test_its_health_check_knows_a_broker_that_lives_from_one_that_does_not(self):
        check = json.loads(re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", self.text, re.MULTILINE)[1])
        self.assertEqual(check[0], "/fanfare")
        with tempfile.TemporaryDirectory() as home:
            # Of the image, but for its place and port.
            environment = {
                "FANFARE_SERVER_LISTEN": "127.0.0.1:0",
                "FANFARE_HISTORY_PATH": home,
            }
            broker = subprocess.Popen(
                [BROKER], cwd=home, env=environment, stdout=subprocess.PIPE, text=True
            )
            try:
                address = re.search(r"http://(\S+)", broker.stdout.readline())[1]
                environment["FANFARE_SERVER_LISTEN"] = address
                ask = lambda: subprocess.run(
                    [BROKER, *check[1:]], cwd=home, env=environment, capture_output=True
                ).returncode
                self.assertEqual(ask(), 0)
            finally:
                broker.kill()
                broker.wait()
                broker.stdout.close()
            self.assertEqual(ask(), 1)


if __name__ == "__main__":
    unittest.main()
