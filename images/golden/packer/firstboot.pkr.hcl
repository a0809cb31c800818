# Provisioners for any builder: add your own "sources". Put these files next to
# this one: firstboot.sh, firstboot.deb (or .rpm), my.yaml.
variable "package" {
  type    = string
  default = "firstboot.deb"
}

build {
  sources = ["source.null.example"]

  provisioner "file" {
    source      = var.package
    destination = "/tmp/${basename(var.package)}"
  }
  provisioner "file" {
    source      = "my.yaml"
    destination = "/tmp/firstboot.yaml"
  }
  # For root. For another user: execute_command = "sudo sh {{ .Path }}".
  provisioner "shell" {
    script          = "firstboot.sh"
    execute_command = "sh {{ .Path }}"
  }
}

# An example: a running machine, over SSH. Replace it with your builder (qemu,
# amazon-ebs, …).
source "null" "example" {
  ssh_host             = "127.0.0.1"
  ssh_username         = "root"
  ssh_private_key_file = "key"
}
