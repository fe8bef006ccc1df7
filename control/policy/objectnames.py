"""What the names of objects may be made of."""

import re

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_LABEL_RULE = "at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit"
DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS_NAME_RULE = "at most 253 lower-case letters, digits, dashes and dots"
