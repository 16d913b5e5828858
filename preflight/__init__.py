"""What a stack would be refused for, found out before `pulumi up`: reads the account, never writes to it."""
