"""What site owners and authors write so that machines read it: what may be requested, and trained on.

`site` holds what a host says in robots.txt and in the files that belong to it, `headers` reads what a
response says, and `data_mining` what a picture says. `signals` names them all.
"""
