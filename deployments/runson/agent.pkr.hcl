# An AMI for RunsOn with sallyport-agent in it, made from RunsOn's own.
#   packer init . && packer build -var region=eu-west-1 -var subnet_id=subnet-… \
#     -var agent=./sallyport-agent -var agent_sha256=… agent.pkr.hcl
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1"
    }
  }
}

variable "region" { type = string }
variable "subnet_id" { type = string }
variable "agent" {
  type        = string
  description = "file with sallyport-agent, built for the image's architecture"
}
variable "agent_sha256" {
  type        = string
  description = "its SHA-256, in hexadecimal digits"
}
variable "base_name" {
  type    = string
  default = "runs-on-v2.2-ubuntu24-full-x64-*"
}

data "amazon-ami" "runs_on" {
  region      = var.region
  owners      = ["135269210855"] # RunsOn
  most_recent = true
  filters = {
    name                = var.base_name
    root-device-type    = "ebs"
    virtualization-type = "hvm"
  }
}

source "amazon-ebs" "runner" {
  region        = var.region
  subnet_id     = var.subnet_id
  source_ami    = data.amazon-ami.runs_on.id
  instance_type = "t3.small"
  ssh_username  = "ubuntu"
  ami_name      = "sallyport-runs-on-${formatdate("YYYYMMDDhhmmss", timestamp())}"
  # RunsOn's images let nobody in by themselves.
  user_data = <<-END
    #!/bin/bash
    systemctl start ssh
  END
}

build {
  sources = ["source.amazon-ebs.runner"]

  provisioner "file" {
    source      = var.agent
    destination = "/tmp/sallyport-agent"
  }
  provisioner "shell" {
    script           = "install.sh"
    environment_vars = ["SALLYPORT_SHA256=${var.agent_sha256}"]
    execute_command  = "sudo env {{ .Vars }} sh {{ .Path }}"
  }
}
