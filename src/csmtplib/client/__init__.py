"""SMTP, SMTP_SSL and LMTP with the interface, the call graph and the outcomes of `smtplib`.

Programs patch names of the module that they use as smtplib (`socket`, `_fix_eols`, `hmac`, ...) and
expect its methods to see that. So whatever may be patched is read from the package itself, at each
call, as `public`. Methods call each other through `self`, as in the stdlib, for the same reason.

Where an outcome differs from the stdlib's, it is on purpose, and a comment says why.
"""
